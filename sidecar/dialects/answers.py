"""Which kind of answer it is: a stream or a body, to be changed or only to be passed on."""

from collections.abc import Callable

from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import Answer, Restore
from sidecar.dialects.observing import Notes, PassingBody, PassingStream
from sidecar.dialects.restoring import BodyShape, RestoringBody, RestoringStream, StreamShape


def open_answer(
    content_type: str,
    restore: Restore | None,
    notes: Notes,
    stream: Callable[[], StreamShape],
    body: BodyShape,
    cited: CitedDocuments | None = None,
) -> Answer:
    """A reader for an answer of this content type. Without `restore` nothing is read but what is noted."""
    is_stream = content_type.lstrip().lower().startswith("text/event-stream")
    if restore is None:
        return PassingStream(notes) if is_stream else PassingBody(notes)
    if is_stream:
        return RestoringStream(notes, stream(), restore, cited)
    # Whatever else it claims to be: what is no JSON cannot be restored or enforced, and is refused at its end.
    return RestoringBody(notes, body, restore, cited)
