"""A rule-based stand-in for a model: it always answers in protocol, so that everything around a model can be tried
without one. It knows words, not language."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from policies.mathprotocol.codes import FIBONACCI, V21_TASKS
from policies.mathprotocol.grammar import parse_request, request_fault

_POSITIVE: Final = frozenset("good great amazing excellent love".split())  # noqa: SIM905 reads as published
_NEGATIVE: Final = frozenset("bad terrible awful hate worst".split())  # noqa: SIM905 reads as published
_SPANISH: Final = frozenset("hola mundo gracias por favor".split())  # noqa: SIM905 reads as published
_FRENCH: Final = frozenset("bonjour monde merci oui non".split())  # noqa: SIM905 reads as published
_UNSAFE: Final = frozenset({"violence", "hate", "explicit"})
_SUMMARY_WORDS: Final = {1: 5, 2: 10}
_TRANSLATIONS: Final = (
    ("good morning", "Buenos días"),
    ("good night", "Buenas noches"),
    ("goodbye", "Adiós"),
    ("thank you", "Gracias"),
    ("please", "Por favor"),
    ("hello", "Hola"),
    ("world", "Mundo"),
    ("yes", "Sí"),
)


def stand_in_answer(text: object) -> str:
    """A valid answer to a valid request, the bare error code to anything else. Never raises."""
    request = parse_request(text)
    fault = request_fault(request, V21_TASKS, FIBONACCI)
    if fault is not None or request is None:
        return str(int(fault or 0))
    return _ANSWERS[request.task](request.context, request.param)


def _words(text: str) -> list[str]:
    return [word.strip(".,;:!?\"'()") for word in text.lower().split()]


def _sentiment(context: str, _: int) -> str:
    words = _words(context)
    score = sum(word in _POSITIVE for word in words) - sum(word in _NEGATIVE for word in words)
    return "3-128" if score > 0 else "5-128" if score < 0 else "9-128"


def _summary(context: str, param: int) -> str:
    return f"17-128 | {' '.join(context.split()[: _SUMMARY_WORDS.get(param, 15)])}..."


def _language(context: str, _: int) -> str:
    words = _words(context)
    spanish, french = sum(word in _SPANISH for word in words), sum(word in _FRENCH for word in words)
    if not spanish and not french:
        return "17-128"
    return "33-128" if spanish >= french else "65-128"


def _entities(context: str, _: int) -> str:
    names = [word.strip(".,;:!?\"'()") for word in context.split() if word.lstrip("\"'(")[:1].isupper()]
    return f"17-128 | {', '.join(names) or 'None'}"


def _question(context: str, _: int) -> str:
    text = context.lower()
    if "capital" in text and "france" in text:
        return "17-128 | Paris"
    if "sky" in text and ("color" in text or "colour" in text):
        return "17-128 | Blue"
    return "17-512 | Unknown"


def _classify(_: str, __: int) -> str:
    return "9-128"


def _translate(context: str, _: int) -> str:
    text = context.lower()
    return f"33-128 | {next((there for here, there in _TRANSLATIONS if here in text), 'Traducción')}"


def _moderate(context: str, _: int) -> str:
    text = context.lower()
    return "5-128" if any(word in text for word in _UNSAFE) else "9-128"


def _keywords(context: str, _: int) -> str:
    return f"17-128 | {', '.join(context.split()[:5]) or 'None'}"


def _readability(context: str, _: int) -> str:
    words = context.split()
    if not words:
        return "9-128"
    mean = sum(map(len, words)) / len(words)
    return "3-128" if mean < 5 else "5-128" if mean > 8 else "9-128"


_ANSWERS: Final[Mapping[int, Callable[[str, int], str]]] = MappingProxyType(
    {
        2: _sentiment,
        3: _summary,
        5: _language,
        7: _entities,
        11: _question,
        13: _classify,
        17: _translate,
        19: _moderate,
        23: _keywords,
        29: _readability,
    }
)
