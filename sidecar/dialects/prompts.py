"""A parsed request body, the same for every dialect that speaks JSON."""

from collections.abc import Callable, Mapping, Sequence

from policies.model import FORWARD_UNCHANGED, Forward, Path, Segment, UnreadablePart
from sidecar.codecs.json_replace import rewritten
from sidecar.codecs.json_splice import Replacement, replacements, splice
from sidecar.codecs.json_strict import Json, JsonError, read_json
from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import MalformedBodyError
from sidecar.dialects.leaves import Leaves

Collect = Callable[[Mapping[str, Json], Leaves], None]
"""Puts every string of a request into the leaves."""

Documents = Callable[[Mapping[str, Json]], Mapping[int, Path]]
"""Index -> path of every document whose text an answer may cite by its characters."""

SystemPrompt = Callable[[bytes, Mapping[str, Json], Forward], list[Replacement]]
"""All replacements for a verdict that also places a system prompt."""


class JsonPrompt:
    """One request. Keeps the bytes as they came and the tree they were read into."""

    __slots__ = ("_documents", "_place", "_tree", "body", "model", "segments", "stream", "unreadable")

    model: str
    stream: bool
    segments: Sequence[Segment]
    unreadable: Mapping[UnreadablePart, int]

    def __init__(
        self,
        body: bytes,
        tree: Mapping[str, Json],
        leaves: Leaves,
        place: SystemPrompt,
        documents: Documents | None = None,
    ) -> None:
        model = tree.get("model")
        self.body = body
        self.model = model if isinstance(model, str) else ""
        self.stream = tree.get("stream") is True
        self.segments = leaves.segments
        self.unreadable = leaves.unreadable
        self._tree = tree
        self._place = place
        self._documents = documents

    def rewrite(self, verdict: Forward) -> bytes:
        """The body with the edited strings spliced in and every other byte as it came."""
        if verdict is FORWARD_UNCHANGED or not (verdict.edits or verdict.system_prompt):
            return self.body
        if verdict.system_prompt:
            return splice(self.body, self._place(self.body, self._tree, verdict))
        return rewritten(self.body, self._tree, verdict.edits)

    def cited(self, verdict: Forward) -> CitedDocuments | None:
        """What an answer needs to cite this prompt as the application sent it; None if nothing citable changed."""
        if self._documents is None or not verdict.edits:
            return None
        came = {segment.path: segment.text for segment in self.segments if segment.path in verdict.edits}
        changed = {
            index: (came[path], verdict.edits[path])
            for index, path in self._documents(self._tree).items()
            if path in came
        }
        return CitedDocuments(changed) if changed else None

    @property
    def tree(self) -> Mapping[str, Json]:
        """The body as parsed. Not to be changed."""
        return self._tree


def read_prompt(body: bytes, collect: Collect, place: SystemPrompt, documents: Documents | None = None) -> JsonPrompt:
    """The parsed body. Raises `MalformedBodyError` unless it is one unambiguous JSON object."""
    leaves = Leaves()
    try:
        tree = read_json(body)
        if not isinstance(tree, dict):
            raise MalformedBodyError("expected a JSON object as request body")
        collect(tree, leaves)
    except JsonError as error:
        raise MalformedBodyError(f"request body is not acceptable JSON: {error}") from None
    return JsonPrompt(body, tree, leaves, place, documents)


def no_system_prompt(body: bytes, _tree: Mapping[str, Json], verdict: Forward) -> list[Replacement]:
    """For endpoints whose model takes no instructions: the edits alone."""
    return replacements(body, verdict.edits)
