"""`aegis airlock scan`, as scorers and people run it."""

import json

from click.testing import CliRunner

from commands.airlock import command

TOO_LONG = "SSN 123-45-6789 " * (1 << 20) + "x"


def run(text: str | bytes, *options: str):  # type: ignore[no-untyped-def]  # click names no type for its result
    return CliRunner().invoke(command, ["scan", *options], input=text)


def test_every_line_is_answered_with_spans_in_code_points() -> None:
    lines = [{"id": 7, "text": "é😀 mail a@b.de"}, {"text": "nothing"}]

    result = run("\n\n".join(map(json.dumps, lines)), "--jsonl")

    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"id": 7, "spans": [{"start": 8, "end": 14, "label": "EMAIL"}]},
        {"id": None, "spans": []},
    ]
    assert result.exit_code == 0


def test_bad_line_is_named_after_the_good_ones_were_answered() -> None:
    for bad, reason in (
        ('{"id": 2,', "line 2 is not JSON"),
        ('{"id": 2}', "line 2 is no object"),
        ('["SSN 123-45-6789"]', "line 2 is no object"),
        ('{"text": 7}', "line 2 is no object"),
        (json.dumps({"text": TOO_LONG}), "line 2 cannot be inspected"),
    ):
        result = run(f'{{"text": "x"}}\n{bad}\n', "--jsonl")

        assert result.exit_code == 2
        assert len(result.stdout.splitlines()) == 1
        assert reason in result.stderr
        assert "6789" not in result.stderr


def test_line_that_is_not_utf8_is_named() -> None:
    result = run(b"\xff\xfe\n", "--jsonl")

    assert result.exit_code == 2
    assert "line 1 is not UTF-8" in result.stderr


def test_people_see_the_text_marked_and_counted() -> None:
    result = run("mail a@b.de, SSN 123-45-6789\n")

    assert result.exit_code == 0
    assert "a@b.de EMAIL" in result.stdout
    assert "SSN" in result.stdout


def test_people_see_when_nothing_was_found() -> None:
    assert "standard input: nothing found" in run("hello\n").stdout


def test_file_is_read_by_its_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "note.txt"
    path.write_text("SSN 123-45-6789")

    result = CliRunner().invoke(command, ["scan", str(path)])

    assert "note.txt" in result.stdout


def test_text_that_cannot_be_read_or_inspected_is_an_error_without_it() -> None:
    binary, flood = run(b"\xff\xfe"), run(TOO_LONG)

    assert binary.exit_code == flood.exit_code == 1
    assert "standard input is not UTF-8 text" in binary.stderr
    assert "cannot be inspected" in flood.stderr
    assert "6789" not in flood.stderr
