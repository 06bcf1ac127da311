"""W3C Trace Context level 1, section 3.2, and its test suite's cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from observability.trace_context import TraceContext, join_trace, new_traces, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

HEADERS = [
    f"{version}-{trace}-{span}-{flags}{rest}"
    for version in ("00", "01", "ff")
    for trace in (TRACE, "0" * 32)
    for span in (SPAN, "0" * 16)
    for flags in ("00", "01", "03", "ff", "0g")
    for rest in ("", "-more")
]


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-ff", 3),
        (f"cc-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-holds", 1),
    ],
)
def test_valid_contexts_are_read(header: str, flags: int) -> None:
    assert TraceContext(TRACE, SPAN, flags) == parse_traceparent(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 600}",
    ],
)
def test_anything_else_starts_a_new_trace(header: str) -> None:
    assert parse_traceparent(header) is None


@given(st.text(max_size=80))
def test_garbage_never_raises_and_never_passes_on(header: str) -> None:
    context = parse_traceparent(header)

    assert context is None or context == parse_traceparent(context.header())


@given(st.text(max_size=60) | st.sampled_from(HEADERS) | st.sampled_from(HEADERS).map(lambda h: h[:3] + h[4:]))
def test_joining_a_trace_keeps_what_parsing_found_and_replaces_the_span(caller: str) -> None:
    parent = parse_traceparent(caller)

    joined = join_trace(caller, "00f067aa0ba902b7")

    if parent is None:
        assert joined is None
    else:
        assert (parent._replace(span_id="00f067aa0ba902b7").header(), parent.span_id) == joined


@given(st.integers(1, 2**128 - 1), st.floats(0, 1))
def test_sampling_by_ratio_decides_as_opentelemetry_does(trace_id: int, ratio: float) -> None:
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "").decision is Decision.RECORD_AND_SAMPLE

    (header,) = new_traces(trace_id.to_bytes(16, "big") + b"spanspan", ratio)

    context = parse_traceparent(header)
    assert context is not None
    assert f"{trace_id:032x}" == context.trace_id
    assert theirs == context.sampled


def test_ids_of_zeros_are_not_used() -> None:
    entropy = bytes(16) + b"spanspan" + b"tracetracetracet" + bytes(8) + b"tracetracetracet" + b"spanspan"

    assert [f"00-{b'tracetracetracet'.hex()}-{b'spanspan'.hex()}-03"] == new_traces(entropy, 1.0)
