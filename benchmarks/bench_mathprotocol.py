"""What the protocol costs: CPU per request validated and per answer validated, beside the published expression.

Budget: 20 µs a request. Run: `python benchmarks/bench_mathprotocol.py`. CPU time, best of five, one thread.
"""

import re
import time
from collections.abc import Callable

from policies.mathprotocol.codes import Kind
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.grammar import parse_request, request_fault
from policies.mathprotocol.policy import ProtocolPolicy
from policies.mathprotocol.responses import AnswerGate, is_valid_response
from policies.model import Channel, ChannelKind, DialectName, Exchange, ExchangeId, Role, Segment, UnixNanos

CONTEXT = "The patient reports mild headache since Tuesday and asks whether to see a neurologist. " * 12
REQUEST = "3-1 | " + CONTEXT
CONFIG = ProtocolConfig(mode=ProtocolMode.ENFORCE)
POLICY = ProtocolPolicy(CONFIG)
EXCHANGE = Exchange(ExchangeId("x"), "p", DialectName.OPENAI_CHAT, "m", "r", False, UnixNanos(0))
PUBLISHED = re.compile(r"^(\d+)-(\d+)(?:\s{0,10}\|\s{0,10}(.+))?$")
SEGMENTS = [Segment(("messages", 0, "content"), Role.USER, REQUEST)]
TEXT = Channel(ChannelKind.TEXT, 0)


def expression() -> None:
    matched = PUBLISHED.match(REQUEST)
    assert matched is not None
    assert int(matched[1]) in CONFIG.tasks


def core() -> None:
    assert request_fault(parse_request(REQUEST), CONFIG.tasks, CONFIG.params) is None


def policy_request() -> None:
    POLICY.open(EXCHANGE).request(SEGMENTS, UnixNanos(0))


def policy_both_ways() -> None:
    run = POLICY.open(EXCHANGE)
    run.request(SEGMENTS, UnixNanos(0))
    run.response(TEXT, "17-128 | a summary", UnixNanos(0), last=False)
    run.response(TEXT, "", UnixNanos(0), last=True)


def answer() -> None:
    assert is_valid_response("17-128 | a summary", Kind.GENERATIVE)


def gate() -> None:
    passing = AnswerGate(Kind.GENERATIVE, 1 << 20)
    for piece in ("17-", "128", " | a", " summary"):
        passing.feed(piece, last=False)


def refused() -> None:
    POLICY.open(EXCHANGE).request([Segment((), Role.USER, "3-1 \n" * 2000)], UnixNanos(0))


def microseconds(work: Callable[[], None], rounds: int = 5000) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.process_time_ns()
        for _ in range(rounds):
            work()
        best = min(best, (time.process_time_ns() - began) / rounds / 1000)
    return best


if __name__ == "__main__":
    base = microseconds(expression)
    print(f"{'':44} {'µs':>8} {'x expression':>14}")
    for name, work in {
        "published expression alone, 1 KB": expression,
        "request: parse and check, 1 KB": core,
        "request: whole policy, 1 KB": policy_request,
        "request and answer: whole policy, 1 KB": policy_both_ways,
        "request refused, 10 KB of near-grammar": refused,
        "answer: whole": answer,
        "answer: gate, 4 pieces": gate,
    }.items():
        cost = microseconds(work)
        print(f"{name:44} {cost:8.2f} {cost / base:14.2f}")
