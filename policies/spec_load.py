"""Files -> documents, or every finding at once. Pure: whoever reads the files hands over their texts."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from policies import spec_refs, spec_yaml
from policies.errors import ConfigError, Finding, SpecError
from policies.snapshot import Upstream
from policies.spec import API_VERSION, Document, DocumentKey, Kind, Source, check_metadata
from policies.spec_models import SPECS, Metadata, value_of
from policies.spec_refs import Placed
from policies.spec_yaml import Node

MAX_FINDINGS: Final = 200
"""More than anyone reads at once; the last one says that there were more."""


_ALWAYS_SAID: Final = frozenset({"profile", "mode"})
"""Fields that documents must have although the values behind them have a default."""
NOTHING: Final[Mapping[DocumentKey, Document]] = {}


def load(sources: Iterable[Source], in_force: Mapping[DocumentKey, Document] = NOTHING) -> list[Document]:
    """The documents of all files, in order. Raises SpecError with every finding.

    References may also be to documents `in_force`, which these are added to or replace.
    """
    placed: list[Placed] = []
    findings: list[Finding] = []
    faulty: set[DocumentKey] = set()
    for source in sources:
        nodes, wrong = spec_yaml.documents(source.name, source.text)
        findings += wrong
        for node in nodes:
            document = _document(source.name, node, findings, faulty)
            if document is not None:
                placed.append(Placed(document, source.name, node))
    findings += spec_refs.findings(placed, in_force, faulty)
    if findings:
        raise SpecError(_bounded(findings))
    return [p.document for p in placed]


def render(document: Document) -> str:
    """`document` as YAML that `load` reads back: what must be said and what differs from the defaults."""
    metadata: dict[str, Any] = {"name": document.name}
    if document.ttl is not None:
        metadata["ttl"] = document.ttl
    whole = {"apiVersion": API_VERSION, "kind": document.kind.value, "metadata": metadata, "spec": _spec(document.body)}
    return spec_yaml.dump(whole)


def _document(file: str, root: Node, findings: list[Finding], faulty: set[DocumentKey]) -> Document | None:
    if not isinstance(root.value, dict):
        findings.append(Finding(file, root.line, root.column, "", "expected a document with apiVersion and kind"))
        return None
    before = len(findings)
    kind = _envelope(file, root, findings)
    metadata = _model(file, root, "metadata", Metadata, findings)
    spec = _model(file, root, "spec", SPECS[kind], findings) if kind else None
    if metadata is not None:
        _judged(file, root, "metadata", lambda: check_metadata(metadata.name, metadata.ttl), findings)
    if kind is None or metadata is None:
        return None
    body: Any = None
    if spec is not None:
        body = _judged(file, root, "spec", lambda: value_of(kind, metadata.name, spec), findings)
    if len(findings) > before:
        faulty.add((kind, metadata.name))
        return None
    return Document(metadata.name, body, metadata.ttl)


def _judged(file: str, root: Node, section: str, judge: Callable[[], Any], findings: list[Finding]) -> Any:
    """What `judge` returns; None after its faults were added to `findings`."""
    try:
        return judge()
    except ConfigError as error:
        findings += [_fault(file, root, section, fault) for fault in error.faults]
    return None


def _envelope(file: str, root: Node, findings: list[Finding]) -> Kind | None:
    assert isinstance(root.value, dict)  # noqa: S101 the caller looked
    for key, place in root.key_places.items():
        if key not in ("apiVersion", "kind", "metadata", "spec"):
            hint = _did_you_mean(key, ["apiVersion", "kind", "metadata", "spec"]) or "remove it"
            findings.append(Finding(file, *place, key[:60], "unknown field", hint))
    version = root.value.get("apiVersion")
    if version is None:
        findings.append(Finding(file, root.line, root.column, "apiVersion", "is missing", f"write {API_VERSION}"))
    elif version.value != API_VERSION:
        message = f"expected {API_VERSION}, got {_shown(version.value)}"
        findings.append(Finding(file, version.line, version.column, "apiVersion", message))
    node = root.value.get("kind")
    if node is None:
        hint = f"write one of {', '.join(Kind)}"
        findings.append(Finding(file, root.line, root.column, "kind", "is missing", hint))
        return None
    try:
        return Kind(node.value)  # type: ignore[arg-type] # what is no text is no kind either
    except ValueError:
        hint = _did_you_mean(str(node.value), list(Kind)) or f"use one of {', '.join(Kind)}"
        findings.append(Finding(file, node.line, node.column, "kind", f"unknown kind {_shown(node.value)}", hint))
        return None


def _model(file: str, root: Node, field: str, model: type[Any], findings: list[Finding]) -> Any:
    assert isinstance(root.value, dict)  # noqa: S101 the caller looked
    node = root.value.get(field)
    if node is None:
        findings.append(Finding(file, root.line, root.column, field, "is missing"))
        return None
    if not isinstance(node.value, dict):
        findings.append(Finding(file, node.line, node.column, field, "expected a mapping of fields"))
        return None
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        details = error.errors(include_url=False)
        findings += [_pydantic_finding(file, node, field, model, detail) for detail in details]
        return None


def _pydantic_finding(file: str, root: Node, prefix: str, model: type[BaseModel], detail: Mapping[str, Any]) -> Finding:
    steps = [step for step in detail["loc"] if step != "[key]"]
    is_key = detail["type"] == "extra_forbidden" or "[key]" in detail["loc"]
    line, column = _place(root, steps, is_key=is_key)
    field = ".".join([prefix, *(str(step)[:60] for step in steps)])
    message, hint = _in_our_words(detail, model, steps)
    return Finding(file, line, column, field, message, hint)


def _in_our_words(detail: Mapping[str, Any], model: type[BaseModel], steps: Sequence[Any]) -> tuple[str, str]:
    given = detail.get("input")
    match detail["type"]:
        case "missing":
            return "is missing", ""
        case "extra_forbidden":
            known = _fields_at(model, steps[:-1])
            return "unknown field", _did_you_mean(str(steps[-1]), known) or f"known are {', '.join(known)}"
        case "enum":
            expected = [part.strip(" '") for part in str(detail["ctx"]["expected"]).replace(" or ", ", ").split(",")]
            hint = _did_you_mean(str(given), expected) or f"use one of {', '.join(expected)}"
            return f"unknown value {_shown(given)}", hint
        case "string_type":
            return f"expected a text, got {_shown(given)}", "put it in quotes" if _is_number(given) else ""
        case "int_type":
            return f"expected a whole number, got {_shown(given)}", ""
        case "bool_type":
            return f"expected true or false, got {_shown(given)}", ""
        case "value_error":
            return f"{str(detail['ctx']['error'])[:200]}, got {_shown(given)}", ""
        case _:
            text = str(detail["msg"])[:200]
            return f"{text[:1].lower()}{text[1:]}, got {_shown(given)}", ""


def _fault(file: str, root: Node, section: str, fault: str) -> Finding:
    """A fault reads `field: what was expected`; nested fields are joined by dots."""
    name, _, message = fault.partition(": ")
    steps = _as_written(root, [section, *filter(None, name.split("."))])
    line, column = _place(root, steps, is_key=False)
    return Finding(file, line, column, ".".join(map(str, steps)), message)


def _as_written(node: Node, parts: Sequence[str]) -> list[str | int]:
    """The names of fields as documents write them: camelCase, but for keys that are data, such as labels."""
    steps: list[str | int] = []
    for part in parts:
        if isinstance(node.value, list):
            at = int(part)
            steps.append(at)
            node = node.value[at]
            continue
        known = node.value if isinstance(node.value, dict) else {}
        step = part if part in known else to_camel(part)
        node = known.get(step, node)
        steps.append(step)
    return steps


def _place(root: Node, steps: Sequence[Any], *, is_key: bool) -> tuple[int, int]:
    """Where the value (or key) that `steps` lead to stands; of what is missing, where it should stand."""
    node = root
    for index, step in enumerate(steps):
        if isinstance(node.value, dict) and step in node.value:
            if is_key and index == len(steps) - 1:
                return node.key_places[step]
            node = node.value[step]
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            break
    return node.line, node.column


def _fields_at(model: type[BaseModel], steps: Sequence[Any]) -> list[str]:
    for step in steps:
        nested = [f.annotation for f in model.model_fields.values() if f.alias == step]
        options = getattr(nested[0], "__args__", (nested[0],)) if nested else ()
        models = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not models:
            return []
        model = models[0]
    return [str(f.alias) for f in model.model_fields.values()]


def _did_you_mean(given: str, known: Sequence[str]) -> str:
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given[:60].lower(), lowered, n=1, cutoff=0.6)
    return f"did you mean {lowered[close[0]]}?" if close else ""


def _shown(value: object) -> str:
    if isinstance(value, (dict, list, frozenset, set)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def _spec(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(_spec(key)): _spec(item) for key, item in sorted(value.items())}
    if isinstance(value, frozenset):
        return sorted(map(_spec, value))
    if isinstance(value, tuple):
        return list(map(_spec, value))
    if is_dataclass(value):
        return {to_camel(f.name): _spec(getattr(value, f.name)) for f in fields(value) if _is_said(f, value)}
    return value


def _is_said(field: Field[Any], value: Any) -> bool:
    content = getattr(value, field.name)
    if field.name == "name" and isinstance(value, Upstream):
        return False  # it stands in the metadata
    if field.name in _ALWAYS_SAID:
        return True
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return bool(content != default)


def _bounded(findings: Sequence[Finding]) -> Sequence[Finding]:
    if len(findings) <= MAX_FINDINGS:
        return findings
    rest = Finding("", 0, 0, "", f"and {len(findings) - MAX_FINDINGS} more findings")
    return [*sorted(findings)[:MAX_FINDINGS], rest]
