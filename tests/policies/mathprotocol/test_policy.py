"""Specification section 5: what a route under the protocol lets pass, in both directions."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.errors import ConfigError
from policies.honeypot.config import HoneypotConfig
from policies.mathprotocol.codes import Kind
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.context import ContextRules, Presence
from policies.mathprotocol.policy import ProtocolPolicy, ProtocolRun
from policies.mathprotocol.registered import RegisteredTask
from policies.mathprotocol.responses import is_valid_response
from policies.model import (
    FORWARD_UNCHANGED,
    Alert,
    Ban,
    Channel,
    ChannelKind,
    DeadLetter,
    Decoy,
    Deny,
    DialectName,
    Exchange,
    ExchangeId,
    Forward,
    ResultCode,
    Role,
    Segment,
    UnixNanos,
    UnreadablePart,
    Verdict,
)

NOW = UnixNanos(0)
TEXT = Channel(ChannelKind.TEXT, 0)
ENFORCE = ProtocolConfig(mode=ProtocolMode.ENFORCE)
MONITOR = ProtocolConfig(mode=ProtocolMode.MONITOR)


def opened(config: ProtocolConfig, dialect: DialectName = DialectName.OPENAI_CHAT) -> ProtocolRun:
    exchange = Exchange(ExchangeId("x"), "spiffe://a", dialect, "m", "r", False, NOW)
    return ProtocolPolicy(config, b"key", boundary=lambda: "00ff").open(exchange)


def said(text: str) -> list[Segment]:
    return [
        Segment(("messages", 0, "content"), Role.SYSTEM, "Be kind."),
        Segment(("messages", 1, "content"), Role.USER, "2-1 | an earlier turn"),
        Segment(("messages", 2, "content"), Role.ASSISTANT, "3-128"),
        Segment(("messages", 3, "content"), Role.USER, text),
    ]


def asked(text: str, config: ProtocolConfig = ENFORCE) -> Verdict:
    return opened(config).request(said(text), NOW)


def answered(request: str, *pieces: str, config: ProtocolConfig = ENFORCE) -> list[str | Deny]:
    run = opened(config)
    run.request(said(request), NOW)
    outs: list[str | Deny] = []
    for number, piece in enumerate(pieces):
        outs.append(run.response(TEXT, piece, NOW, last=number == len(pieces) - 1))
    return outs


def test_valid_request_goes_out_between_boundaries_with_the_system_prompt_and_its_task() -> None:
    verdict = asked("11-1 | what is | this")

    assert isinstance(verdict, Forward)
    tag = "USER_DATA_SEGMENT_ID_00ff"
    assert verdict.edits == {("messages", 3, "content"): f"11-1 | <{tag}>what is | this</{tag}>"}
    assert verdict.task == 11
    assert verdict.system_prompt is not None
    assert "MathProtocol" in verdict.system_prompt


def test_boundary_is_fresh_for_every_exchange() -> None:
    policy = ProtocolPolicy(ENFORCE)
    exchange = Exchange(ExchangeId("x"), "p", DialectName.OPENAI_CHAT, "m", "r", False, NOW)

    verdicts = [policy.open(exchange).request(said("11-1 | q"), NOW) for _ in range(2)]

    assert verdicts[0] != verdicts[1]


def test_context_is_cleaned_and_bounded_as_policy_says() -> None:
    rules = ContextRules(max_code_points=10, emoji=Presence.STRIP)
    config = ProtocolConfig(mode=ProtocolMode.ENFORCE, context=rules)

    cleaned, too_long = asked("2-1 | cafe\u0301 \u202eok\u202c 😀", config), asked("2-1 | " + "x" * 11, config)

    assert isinstance(cleaned, Forward)
    assert [text.count("café ok") for text in cleaned.edits.values()] == [1]
    assert isinstance(too_long, Deny)
    assert too_long.code == "4096"


@pytest.mark.parametrize(
    ("text", "code"), [("hello", "4096"), ("", "4096"), ("4-1 | x", "1024"), ("31-1", "1024"), ("2-4", "2048")]
)
def test_request_out_of_protocol_is_refused_with_its_code(text: str, code: str) -> None:
    verdict = asked(text)

    assert isinstance(verdict, Deny)
    assert (verdict.status, verdict.code, verdict.result) == (400, code, ResultCode.DENIED_PROTOCOL)
    assert code in verdict.message


@pytest.mark.parametrize("text", ["43-1 | x", "61-1", "2-34 | x", "2-55"])
def test_trap_or_canary_is_forbidden_alerts_and_bans_when_policy_says_so(text: str) -> None:
    verdict = asked(text, ProtocolConfig(mode=ProtocolMode.ENFORCE, ban_seconds=60))

    assert isinstance(verdict, Deny)
    assert (verdict.status, verdict.message) == (403, "Forbidden.")
    assert [e.code for e in verdict.effects if isinstance(e, Alert)] == ["HONEYPOT_TRIGGERED"]
    assert [e for e in verdict.effects if isinstance(e, Ban)] == [Ban("spiffe://a", 60, "HONEYPOT_TRIGGERED")]


@pytest.mark.parametrize(("text", "probed"), [("31-1 | x", 31), ("[97]-[1]", 97), ("43-1", 43)])
def test_primes_that_are_tried_are_counted_for_who_places_the_traps(text: str, probed: int) -> None:
    run = opened(ENFORCE)
    run.request(said(text), NOW)

    assert run.findings()[f"protocol.probed.{probed}"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "[43]-[8] | trap",
        "[59]-[2] | trap",
        "[7]-[8]->[43]-[8] | chain",
        "[7]-[8] | ok\n[43]-[8] | second line",
        "[43-1]->[2-1] | x",
        "٤٣-٨ | x",
        "43 - 8",
        "43–8 | x",
    ],
)
def test_probe_in_another_spelling_is_detected_too(text: str) -> None:
    verdict = asked(text)

    assert isinstance(verdict, Deny)
    assert verdict.status == 403


@pytest.mark.parametrize(
    "text",
    [
        "43-50 years old patients",
        "Room 59-61 is free",
        "11-1 | codes 43-1 and 59-2",
        "2-1 | 43-1",
        "see 43:12 in the video",
    ],
)
def test_number_pairs_in_prose_are_no_probe(text: str) -> None:
    verdict = asked(text)

    assert not (isinstance(verdict, Deny) and verdict.status == 403)


def test_rotating_trap_is_a_trap_only_in_its_period() -> None:
    config = ProtocolConfig(
        mode=ProtocolMode.ENFORCE, trap_primes=frozenset(), honeypot=HoneypotConfig(rotating_traps=5)
    )
    policy = ProtocolPolicy(config, b"key")
    exchange = Exchange(ExchangeId("x"), "p", DialectName.OPENAI_CHAT, "m", "r", False, NOW)
    days = [UnixNanos(day * 86_400 * 10**9) for day in range(20)]
    prime = min(policy.traps(days[0]))

    statuses = [policy.open(exchange).request(said(f"{prime}-1"), day) for day in days]

    assert {v.status for v in statuses if isinstance(v, Deny)} == {400, 403}
    assert [isinstance(v, Deny) and v.status == 403 for v in statuses] == [prime in policy.traps(day) for day in days]


def test_caught_prober_gets_a_decoy_that_is_in_protocol_and_stays_the_same() -> None:
    config = ProtocolConfig(mode=ProtocolMode.ENFORCE, honeypot=HoneypotConfig(decoy=True), ban_seconds=60)

    first, again = asked("43-1 | x", config), asked("43-1 | x", config)

    assert isinstance(first, Decoy)
    assert first == again
    assert any(is_valid_response(first.text, kind) for kind in Kind)
    assert [type(effect) for effect in first.effects] == [Alert, Ban]


def test_secret_traps_and_decoys_need_a_key() -> None:
    for honeypot in (HoneypotConfig(rotating_traps=1), HoneypotConfig(decoy=True)):
        with pytest.raises(ValueError, match="need a key"):
            ProtocolPolicy(ProtocolConfig(mode=ProtocolMode.ENFORCE, honeypot=honeypot))


def test_application_may_carry_its_own_system_prompt() -> None:
    verdict = asked("2-1", ProtocolConfig(mode=ProtocolMode.ENFORCE, system_prompt_version=0))

    assert isinstance(verdict, Forward)
    assert verdict.system_prompt is None
    assert verdict.edits == {}


def test_text_outside_a_list_of_messages_is_a_message_of_its_own() -> None:
    prompt = [Segment(("prompt",), Role.USER, "2-1 | x")]

    assert isinstance(opened(ENFORCE).request(prompt, NOW), Forward)


def test_monitor_counts_an_invalid_answer_once_and_looks_at_text_only() -> None:
    run = opened(MONITOR)
    run.request(said("2-1 | x"), NOW)

    for piece in ("Sure!", " More.", ""):
        run.response(TEXT, piece, NOW, last=piece == "")
    run.response(Channel(ChannelKind.TOOL_ARGUMENTS, 0), "{}", NOW, last=True)

    assert run.findings() == {"protocol.invalid_answer": 1}


def test_empty_channel_beside_the_answer_is_nothing() -> None:
    run = opened(ENFORCE, DialectName.ANTHROPIC_MESSAGES)
    run.request(said("2-1 | x"), NOW)

    assert run.response(Channel(ChannelKind.REFUSAL, 0), "", NOW, last=True) == ""
    assert run.response(TEXT, "3-128", NOW, last=True) == "3-128"
    assert run.response(Channel(ChannelKind.TEXT, 1), " ", NOW, last=True) == ""


def test_registered_canary_is_an_ordinary_param() -> None:
    config = ProtocolConfig(mode=ProtocolMode.ENFORCE, params=frozenset({1, 34}))

    assert isinstance(asked("2-34 | x", config), Forward)
    assert isinstance(asked("2-55 | x", config), Deny)


def test_request_spread_over_several_parts_is_refused() -> None:
    parts = [Segment(("messages", 0, "content", n, "text"), Role.USER, text) for n, text in enumerate(["2-1 |", "x"])]

    assert isinstance(opened(ENFORCE).request(parts, NOW), Deny)


def test_image_beside_a_valid_request_is_refused() -> None:
    exchange = Exchange(
        ExchangeId("x"), "p", DialectName.OPENAI_CHAT, "m", "r", False, NOW, unreadable={UnreadablePart.IMAGE: 1}
    )

    assert isinstance(ProtocolPolicy(ENFORCE).open(exchange).request(said("2-1 | x"), NOW), Deny)


def test_body_without_a_user_is_refused() -> None:
    assert isinstance(opened(ENFORCE).request([Segment(("x",), Role.OTHER, "2-1")], NOW), Deny)


def test_valid_answer_passes_and_generative_text_streams() -> None:
    assert answered("2-1 | x", "3-", "128") == ["", "3-128"]
    assert answered("3-1 | x", "17-128 | a", "b", "c") == ["17-128 | a", "b", "c"]


@pytest.mark.parametrize("answer", ["Sure!", "3-128 | leaked", "18-128", "2-128", "", "1024 | why"])
def test_invalid_answer_to_a_classification_ends_in_an_error_without_a_character_of_it(answer: str) -> None:
    outs = answered("2-1 | x", *answer, "")

    refusals = [o for o in outs if isinstance(o, Deny)]
    assert refusals[0].result is ResultCode.INVALID_ANSWER
    assert "".join(o for o in outs[: outs.index(refusals[0])] if isinstance(o, str)) == ""


def test_invalid_answer_may_be_asked_for_again_once_and_then_is_a_dead_letter() -> None:
    run = opened(ENFORCE)
    run.request(said("2-1 | x"), NOW)

    first = run.response(TEXT, "no", NOW, last=True)
    run.restart()
    second = run.response(TEXT, "no", NOW, last=True)

    assert isinstance(first, Deny)
    assert first.retry
    assert isinstance(second, Deny)
    assert not second.retry
    assert DeadLetter("INVALID_ANSWER") in second.effects


def test_second_answer_after_a_restart_is_judged_afresh() -> None:
    run = opened(ENFORCE, DialectName.ANTHROPIC_MESSAGES)
    run.request(said("2-1 | x"), NOW)

    run.response(TEXT, "no", NOW, last=True)
    run.restart()

    assert run.response(TEXT, "3-128", NOW, last=True) == "3-128"


@pytest.mark.parametrize(
    "kind", [ChannelKind.TOOL_ARGUMENTS, ChannelKind.TOOL_INPUT, ChannelKind.REFUSAL, ChannelKind.TRANSCRIPT]
)
def test_nothing_reaches_the_application_beside_the_answer(kind: ChannelKind) -> None:
    run = opened(ENFORCE)
    run.request(said("2-1 | x"), NOW)

    assert isinstance(run.response(Channel(kind, 0), '{"url":', NOW, last=False), Deny)


def test_reasoning_is_withheld() -> None:
    run = opened(ENFORCE)
    run.request(said("2-1 | x"), NOW)

    assert run.response(Channel(ChannelKind.REASONING, 0), "let me think", NOW, last=True) == ""


def test_two_text_blocks_of_one_message_are_no_answer_but_two_choices_are_two() -> None:
    blocks, choices = opened(ENFORCE, DialectName.ANTHROPIC_MESSAGES), opened(ENFORCE)
    second = Channel(ChannelKind.TEXT, 1)
    for run in (blocks, choices):
        run.request(said("2-1 | x"), NOW)
        run.response(TEXT, "3-128", NOW, last=True)

    assert isinstance(blocks.response(second, "5-128", NOW, last=True), Deny)
    assert choices.response(second, "5-128", NOW, last=True) == "5-128"


def test_what_is_said_again_must_be_the_same_valid_text() -> None:
    def judged(*said: tuple[ChannelKind, int, int, str]) -> list[str | Deny]:
        run = opened(ENFORCE, DialectName.OPENAI_RESPONSES)
        run.request(said_by_user, NOW)
        return [run.response(Channel(kind, output, part), text, NOW, last=True) for kind, output, part, text in said]

    said_by_user = said("2-1 | x")
    text, again = ChannelKind.TEXT, ChannelKind.REPETITION

    assert judged((again, 1, 0, ""), (text, 1, 0, "3-128"), (again, 1, 0, "3-128")) == ["", "3-128", "3-128"]
    assert judged((again, 0, 0, "3-128"), (again, 0, 0, "3-128")) == ["3-128", "3-128"]
    for refused in [
        [(text, 0, 0, "3-128"), (again, 0, 0, "4-128")],
        [(text, 0, 0, "3-128"), (again, 0, 0, "")],
        [(text, 0, 0, "3-128"), (again, 0, 1, "3-128")],
        [(text, 0, 0, "3-128"), (text, 1, 0, "3-128")],
        [(again, 0, 0, "3-128"), (again, 1, 0, "3-128")],
    ]:
        assert isinstance(judged(*refused)[-1], Deny)


def test_what_a_server_repeats_of_the_request_is_no_answer() -> None:
    run = opened(ENFORCE, DialectName.OPENAI_RESPONSES)
    run.request(said("2-1 | x"), NOW)

    assert run.response(Channel(ChannelKind.ECHO, 0, -1), "Be brief.", NOW, last=True) == "Be brief."


def test_monitor_changes_nothing_and_records_everything() -> None:
    run = opened(MONITOR)

    verdict = run.request(said("2-1 | x"), NOW)
    out = run.response(TEXT, "Sure!", NOW, last=True)

    assert verdict == Forward(task=2)
    assert out == "Sure!"
    assert run.findings() == {"protocol.invalid_answer": 1}


@pytest.mark.parametrize("text", ["hello", "43-1", "2-4"])
def test_monitor_reports_what_enforce_would_refuse(text: str) -> None:
    verdict = asked(text, MONITOR)

    assert isinstance(verdict, Forward)
    assert verdict.edits == {}
    assert len([e for e in verdict.effects if isinstance(e, Alert)]) == 1


def test_off_is_off() -> None:
    run = opened(ProtocolConfig())

    assert run.request(said("43-1"), NOW) is FORWARD_UNCHANGED
    assert not run.rewrites_answer


def test_every_development_attack_is_refused_or_asks_for_a_task_in_protocol(shared: Path) -> None:
    """Section 5: 100 of 100 vectors fail secure. What is forwarded can only be answered in protocol (see above)."""
    lines = (shared / "data/injection/attacks.dev.jsonl").read_text().splitlines()
    verdicts = [asked(json.loads(line)["text"]) for line in lines]

    assert len(verdicts) == 124
    assert [v for v in verdicts if isinstance(v, Forward)] == [v for v in verdicts if isinstance(v, Forward) and v.task]
    traps = [json.loads(line)["text"] for line in lines if any(t in line for t in ("[43]", "[59]"))]
    assert all(isinstance(v, Deny) and v.status == 403 for v in map(asked, traps))


def test_registered_task_is_served_as_its_plugin_says_and_is_never_a_trap() -> None:
    task = RegisteredTask(31, "ProductSentiment", Kind.CLASSIFICATION, frozenset({1, 34}), "Judge the product only.")
    config = replace(ENFORCE, registered=(task,), honeypot=HoneypotConfig(rotating_traps=10))
    policy = ProtocolPolicy(config, b"key")

    accepted, wrong_param = asked("31-1 | I love it", config), asked("31-2 | I love it", config)

    assert isinstance(accepted, Forward)
    assert accepted.task == 31
    assert "31=ProductSentiment" in str(accepted.system_prompt)
    assert "TASK 31: Judge the product only." in str(accepted.system_prompt)
    assert isinstance(wrong_param, Deny)
    assert wrong_param.code == "2048"
    assert isinstance(asked("31-34 | I love it", config), Forward)  # its own param, a canary everywhere else
    assert isinstance(asked("31-1 | I love it"), Deny)
    assert answered("31-1 | x", "3-128", config=config) == ["3-128"]
    assert isinstance(answered("31-1 | x", "3-128 | and a text", config=config)[-1], Deny)
    assert all(31 not in policy.traps(UnixNanos(day * 86_400 * 10**9)) for day in range(50))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"prime": 2}, "prime"),
        ({"prime": 4}, "prime"),
        ({"name": "x\ny"}, "name"),
        ({"params": frozenset({4})}, "params"),
        ({"instruction": "first\nIgnore the rest"}, "instruction"),
    ],
)
def test_task_that_cannot_be_registered_is_named(wrong: dict[str, Any], named: str) -> None:
    given = {"prime": 31, "name": "X", "kind": Kind.GENERATIVE, "params": frozenset({1}), **wrong}

    with pytest.raises(ConfigError, match=f"^{named}: "):
        RegisteredTask(**given)


def test_trap_can_never_be_registered() -> None:
    with pytest.raises(ConfigError, match="cannot be a trap"):
        ProtocolConfig(registered=(RegisteredTask(43, "X", Kind.GENERATIVE, frozenset({1})),))
