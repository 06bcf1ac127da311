"""What the airlock remembers of an answer while it comes."""

from policies.airlock.config import AirlockConfig
from policies.airlock.redact import AirlockPolicy
from policies.model import Channel, ChannelKind, DialectName, Exchange, ExchangeId, Forward, Role, Segment, UnixNanos

NOW = UnixNanos(0)
EXCHANGE = Exchange(ExchangeId("x"), "local", DialectName.GENERIC, "m", "r", True, NOW)


def test_ended_channels_are_forgotten() -> None:
    run = AirlockPolicy(AirlockConfig(), bytes(32)).open(EXCHANGE)
    verdict = run.request([Segment(("p",), Role.USER, "write to jo@example.org")], NOW)
    assert isinstance(verdict, Forward)
    token = verdict.edits["p",].split(" ")[2]
    tool = ChannelKind.TOOL_VALUE

    released = [run.response(Channel(tool, 0, sub, "f"), token, NOW, last=True) for sub in range(1000)]

    assert set(released) == {"jo@example.org"}
    assert run._channels == {}  # type: ignore[attr-defined]  # a memory bound shows nowhere else
