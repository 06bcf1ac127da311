"""How one answer is read on behalf of policies and metrics. An answer that nobody reads has none of this."""

from collections.abc import Callable

from policies.model import DialectName
from sidecar.codecs.http1_head import AnswerHead
from sidecar.codecs.inflate import Inflate, InflateError
from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import Answer, Dialect, MalformedAnswerError, Restore


class Reading:
    """One answer, fed as it arrives."""

    __slots__ = (
        "_answer",
        "_ends_by_close",
        "_inflate",
        "_is_stream",
        "_knows_its_end",
        "observed",
        "rendered",
        "size",
    )

    def __init__(
        self,
        dialect: Dialect,
        head: AnswerHead,
        restore: Restore | None,
        cited: CitedDocuments | None,
        *,
        ends_by_close: bool,
    ) -> None:
        """`ends_by_close`: whether the end of the connection is the only sign that the answer is whole.

        Raises MalformedAnswerError when it is compressed in a way that cannot be read.
        """
        failed = head.status >= 400
        self._answer: Answer = dialect.failed() if failed else dialect.answer(head.content_type, restore, cited)
        self.observed = self._answer.observed
        self._is_stream = head.is_stream
        self._ends_by_close = ends_by_close
        self._knows_its_end = dialect.name is not DialectName.GENERIC
        self.size = 0
        """Bytes of the answer so far, unpacked."""
        self._inflate: Inflate | None = None
        self.rendered = head.rendered
        """The head as it is passed on."""
        if head.content_encoding not in {"", "identity"}:
            self.rendered = head.without(b"content-encoding")
            try:
                self._inflate = Inflate(head.content_encoding)
            except InflateError as error:
                raise MalformedAnswerError(str(error)) from None

    @property
    def follow(self) -> Callable[[bytes], bytes | None] | None:
        """The short way for events of a stream (see `Answer.follow`); None: there is none."""
        return self._answer.follow if self._is_stream and self._inflate is None else None

    def feed(self, data: bytes) -> bytes:
        """What may be released. Raises AnswerRefusedError or MalformedAnswerError."""
        if self._inflate is not None:
            try:
                data = self._inflate.feed(data)
            except InflateError as error:
                raise MalformedAnswerError(str(error)) from None
        self.size += len(data)
        return self._answer.feed(data)

    def close(self) -> bytes:
        """The rest. Raises like `feed`, and when a stream that ends with its connection was cut off."""
        if self._inflate is not None:
            try:
                self._inflate.close()
            except InflateError as error:
                raise MalformedAnswerError(str(error)) from None
        rest = self._answer.close()
        if self._ends_by_close and self._is_stream and self._knows_its_end and not self.observed.finished:
            raise MalformedAnswerError("the upstream closed before the end of its answer")
        return rest

    def break_off(self, code: str, message: str) -> bytes:
        """What tells the client of a stream that it ends in an error; empty for an answer that is no stream."""
        return self._answer.break_off(code, message)
