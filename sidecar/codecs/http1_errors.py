"""What can be wrong with an HTTP/1 message.

Http1Error
├── BadRequestError    the client's fault; carries the status that tells it so
└── BadAnswerError     the upstream's fault; the client is told 502
"""


class Http1Error(Exception):
    """Root. Messages say what was expected, never what stood in a field: it may be a key."""


class BadRequestError(Http1Error):
    """The client sent what is not a request, or one that two readers could understand differently."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class BadAnswerError(Http1Error):
    """The upstream sent what is not an answer, or one that two readers could understand differently."""
