"""Specification section 4, module `mathprotocol`: every name, shape and message that existing code relies on."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mathprotocol import MathProtocol, MockLLM, ProtocolRegistry, registry


@pytest.fixture
def protocol() -> MathProtocol:
    return MathProtocol()


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


def test_code_sets_are_those_of_section_1() -> None:
    assert max(MathProtocol.PRIMES) == 97
    assert len(MathProtocol.PRIMES) == 25
    assert {1, 2, 3, 5, 8, 13, 21, 34, 55, 89} == MathProtocol.FIBONACCI
    assert {2**n for n in range(13)} == MathProtocol.POWERS_OF_2
    assert {2, 5, 13, 19, 29} == MathProtocol.CLASSIFICATION_TASKS
    assert {3, 7, 11, 17, 23} == MathProtocol.GENERATIVE_TASKS
    assert set(MathProtocol.TASKS) == MathProtocol.CLASSIFICATION_TASKS | MathProtocol.GENERATIVE_TASKS
    assert (
        MathProtocol.ERROR_INVALID_TASK,
        MathProtocol.ERROR_INVALID_PARAM,
        MathProtocol.ERROR_INVALID_FORMAT,
    ) == (1024, 2048, 4096)


@pytest.mark.parametrize("text", ["2-1", "2-1 | x", "17-89|x", "29-34 | a | b", "2-1" + " " * 10 + "| x"])
def test_valid_requests(protocol: MathProtocol, text: str) -> None:
    assert protocol.validate_input(text)


@pytest.mark.parametrize("text", ["", None, 2, "31-1", "2-4", "2", "2-1-1", "2-1 |", "２-1", "2-1" + " " * 11 + "| x"])
def test_invalid_requests(protocol: MathProtocol, text: object) -> None:
    assert not protocol.validate_input(text)
    assert protocol.parse_input(text) is None


def test_parsed_request(protocol: MathProtocol) -> None:
    assert protocol.parse_input("17-1 |  Hello | world ") == {"task": 17, "param": 1, "context": "Hello | world"}
    assert protocol.parse_input("2-1") == {"task": 2, "param": 1, "context": ""}


def test_parsed_response(protocol: MathProtocol) -> None:
    assert protocol.parse_response("17-128 | Hola | b") == {"codes": [17, 128], "payload": "Hola | b"}
    assert protocol.parse_response("1024") == {"codes": [1024], "payload": ""}
    assert protocol.parse_response(None) == {"codes": [], "payload": ""}
    assert protocol.parse_response("") == {"codes": [], "payload": ""}


@pytest.mark.parametrize(
    ("text", "task", "valid"),
    [
        ("3-128", 2, True),
        ("2-128", 2, False),
        ("3-128 | x", 2, False),
        ("17-128", 3, False),
        ("17-128 | x", 3, True),
        ("1024", 2, True),
        ("1024 | x", 2, False),
        ("8192", 2, False),
        ("3-64", 2, False),
        ("513-128", 5, True),
        ("3-128", 31, False),
    ],
)
def test_validated_response(protocol: MathProtocol, text: str, task: int, *, valid: bool) -> None:
    assert protocol.validate_response(text, task) is valid


def test_names_are_none_when_unknown(protocol: MathProtocol) -> None:
    assert (protocol.get_task_name(11), protocol.get_task_name(31)) == ("Q&A", None)
    assert (protocol.get_param_name(21), protocol.get_param_name(34)) == ("Explain", None)
    assert (protocol.get_response_name(64), protocol.get_response_name(1)) == ("French", None)


def test_prompt_lines(protocol: MathProtocol) -> None:
    lines = protocol.construct_prompt(7, [5, 8], "the text").split("\n")

    assert lines[:7] == [
        "MATHPROTOCOL_V2_REQUEST",
        "TASK_PRIME: 7",
        "PARAM_FIB: [5, 8]",
        "CHECKSUM: 91",
        "DATA_START",
        "the text",
        "DATA_END",
    ]
    assert len(lines) == 8
    assert lines[7].startswith("INSTRUCTION:")
    assert "CHECKSUM: 7\n" in protocol.construct_prompt(7, [], "")


def test_decoded_response(protocol: MathProtocol) -> None:
    assert protocol.decode_response(131) == {
        "raw_code": 131,
        "success": True,
        "flags": ["SUCCESS_BIT", "Positive", "HighConf"],
        "description": "SUCCESS_BIT | Positive | HighConf",
    }
    assert protocol.decode_response(2)["success"] is False


def test_request_is_registered_or_not(protocol: MathProtocol) -> None:
    assert protocol.validate_request(2, [1, 34, 55, 89])
    assert not protocol.validate_request(31, [1])
    assert not protocol.validate_request(2, [1, 4])

    registry.register_task(31, "Rhyme")

    assert protocol.validate_request(31, [])


def test_registry_is_one_for_the_process() -> None:
    assert ProtocolRegistry() is ProtocolRegistry() is registry


def test_registry_shows_copies_of_its_names() -> None:
    registry.tasks[31] = "X"

    assert 31 not in registry.tasks
    assert registry.parameters[55] == "REDACT_PII"
    assert registry.responses[1] == "SUCCESS_BIT"


def test_registry_takes_only_codes_of_the_sets() -> None:
    registry.register_task(97, "X")
    registry.register_parameter(89, "Y")
    registry.register_response(65536, "Z")

    assert registry.get_task_name(97) == "X"
    assert registry.get_parameter_name(89) == "Y"
    assert registry.get_response_flags(65537) == ["SUCCESS_BIT", "Z"]
    for register, number in (
        (registry.register_task, 4),
        (registry.register_task, 101),
        (registry.register_parameter, 4),
        (registry.register_response, 3),
    ):
        with pytest.raises(ValueError, match="not"):
            register(number, "no")


def test_reset_restores_the_defaults_and_unknown_names_say_so() -> None:
    registry.register_task(97, "X")

    registry.reset()

    assert registry.get_task_name(97) == "UNKNOWN_TASK_97"
    assert registry.get_parameter_name(4) == "UNKNOWN_PARAM_4"
    assert registry.get_parameter_name(55) == "REDACT_PII"


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        ("nonsense", "4096"),
        ("4-1 | x", "1024"),
        ("2-4 | x", "2048"),
        ("2-1 | I love it, great", "3-128"),
        ("2-1 | the worst, I hate it", "5-128"),
        ("2-1 | a table", "9-128"),
        ("3-1 | one two three four five six", "17-128 | one two three four five..."),
        ("3-2 | a b c d e f g h i j k", "17-128 | a b c d e f g h i j..."),
        ("5-1 | hola mundo", "33-128"),
        ("5-1 | bonjour le monde", "65-128"),
        ("5-1 | hello", "17-128"),
        ("7-1 | then Alice met Bob.", "17-128 | Alice, Bob"),
        ("11-1 | What is the capital of France?", "17-128 | Paris"),
        ("11-1 | What color is the sky?", "17-128 | Blue"),
        ("13-1 | x", "9-128"),
        ("17-1 | Hello", "33-128 | Hola"),
        ("19-1 | some violence", "5-128"),
        ("19-1 | a garden", "9-128"),
        ("23-1 | a b c d e f", "17-128 | a, b, c, d, e"),
        ("29-1 | a cat sat", "3-128"),
        ("29-1 | internationalisation notwithstanding", "5-128"),
        ("29-1 | simple enough", "9-128"),
    ],
)
def test_stand_in_answers(request_text: str, answer: str) -> None:
    assert MockLLM().process(request_text) == answer


@given(st.sampled_from(sorted(MathProtocol.TASKS)), st.sampled_from([1, 2, 3, 5, 8, 13, 21]), st.text())
def test_stand_in_always_answers_in_protocol(task: int, param: int, context: str) -> None:
    protocol = MathProtocol()

    assert protocol.validate_response(MockLLM().process(f"{task}-{param} | {context}"), task)
