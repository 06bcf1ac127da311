"""The decision about one request body: read by its dialect, asked of the policies, rewritten.

A pure function of its arguments, so that it can run on the event loop or, for long bodies, on the inspector's thread.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from policies.model import (
    FORWARD_UNCHANGED,
    Decoy,
    Delegate,
    Deny,
    Exchange,
    ExchangeId,
    Forward,
    ResultCode,
    UnixNanos,
    Verdict,
    identifiers,
)
from policies.pipeline import PipelineRun
from sidecar.account import NOTHING_FOUND
from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import MalformedBodyError
from sidecar.plan import Plan

_new: Final[Callable[..., Any]] = tuple.__new__


class Inspected(NamedTuple):
    """What became of one request body."""

    verdict: Verdict
    body: bytes
    """For the upstream if it is Forward, for the client if it is Decoy, else empty."""
    content_type: str = ""
    """Of a decoy."""
    model: str = ""
    stream: bool = False
    policies: PipelineRun | None = None
    """Sees the answer later. None when the body could not be read."""
    changes_answer: bool = False
    """Whether any of them wants to."""
    findings: Mapping[str, int] = NOTHING_FOUND
    redacted: int = 0
    """How many identifiers were taken out."""
    guards_answer: bool = False
    """See `Forward.guards_answer`."""
    cited: CitedDocuments | None = None
    """What the answer needs to cite the prompt as it came."""
    render: Callable[[str, ExchangeId], tuple[str, bytes]] | None = None
    """Makes an answer of a text in place of the model's: content type and body. Only beside Delegate."""


def inspect(body: bytes, plan: Plan, exchange: ExchangeId, peer: str, now: UnixNanos) -> Inspected:
    """The verdict, and the bytes that follow from it. Raises nothing a client can cause."""
    route, dialect = plan.route, plan.dialect
    assert route is not None  # noqa: S101 a plan without a route is a refusal and reads nothing
    try:
        prompt = dialect.read(body)
    except MalformedBodyError as error:
        # Redaction on and a body that cannot be read with certainty: what was not read cannot be vouched for.
        return Inspected(Deny(ResultCode.MALFORMED_REQUEST, 400, "aegis_malformed_body", str(error)), b"")
    model, stream = prompt.model, prompt.stream
    policies = route.pipeline.open(
        Exchange(exchange, peer, dialect.name, model, route.name, stream, now, prompt.unreadable, plan.conversation)
    )
    verdict = policies.request(prompt.segments, now)
    changes, findings = policies.rewrites_answer, policies.findings()
    if verdict is FORWARD_UNCHANGED:
        unchanged = (verdict, body, "", model, stream, policies, changes, findings, 0, False, None, None)
        inspected: Inspected = _new(Inspected, unchanged)  # a fifth of the price of calling it
        return inspected
    match verdict:
        case Forward():
            redacted = identifiers(findings) if verdict.edits else 0
            rewritten, cited = prompt.rewrite(verdict), prompt.cited(verdict)
            return Inspected(
                verdict,
                rewritten,
                "",
                model,
                stream,
                policies,
                changes,
                findings,
                redacted,
                verdict.guards_answer,
                cited,
            )
        case Decoy(text=text):
            content_type, false_answer = dialect.decoy(prompt, text, exchange)
            return Inspected(verdict, false_answer, content_type, model, stream, policies, changes, findings)
        case Delegate():
            inspected = Inspected(verdict, b"", "", model, stream, policies, changes, findings)
            return inspected._replace(render=partial(dialect.decoy, prompt))
        case Deny():
            return Inspected(verdict, b"", "", model, stream, policies, changes, findings)
