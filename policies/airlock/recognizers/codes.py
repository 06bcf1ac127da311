"""Postal codes that their surroundings or their letters give away, and coordinates."""

import re
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import Candidate, Rank, Recognizer, from_digit, touching

STATES: Final = (
    "AL|AK|AZ|AR|CA|CO|CT|DC|DE|FL|GA|HI|IA|ID|IL|IN|KS|KY|LA|MA|MD|ME|MI|MN|MO|MS|MT|NC|ND|NE|NH|NJ|NM|NV|NY|OH|OK|OR|"
    "PA|RI|SC|SD|TN|TX|UT|VA|VT|WA|WI|WV|WY|PR|VI|GU|AS|MP|FM|MH|PW|AA|AE|AP"
)
"""USPS Publication 28, appendix B: states, territories and the armed forces."""

_STATE_ZIP: Final = re.compile(rf"(?<![A-Za-z])(?:{STATES})[ ,]{{1,2}}(?P<v>\d{{5}}(?:-\d{{4}})?)(?![\w-])")
_ZIP_PLUS_4: Final = re.compile(r"(?<![\w.])(?<!\w[-/])\d{5}-\d{4}(?![\w-])(?!\.\d)", re.ASCII)
_LETTERED: Final = re.compile(
    # United Kingdom (with its space: without it, half of all part numbers match), Canada
    r"(?<![A-Za-z0-9])(?:(?:[A-PR-UWYZ](?:\d{1,2}|[A-HK-Y]\d|[A-HK-Y]\d\d|\d[A-HJKPS-UW]|[A-HK-Y]\d[A-Z])|GIR) "
    r"\d[A-Z]{2}|[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z][ -]?\d[ABCEGHJ-NPRSTV-Z]\d)(?![A-Za-z0-9])"
)


def _behind_state(text: str, end: int, found: list[Candidate]) -> None:
    match = _STATE_ZIP.match(text, end - 9 if text[end - 7] == "," else end - 8)
    if match:
        found.append((*match.span("v"), Rank.SHAPE, Label.ZIP_CODE))


def _plus_4(text: str, end: int, found: list[Candidate]) -> None:
    match = _ZIP_PLUS_4.match(text, end - 10)
    if match:
        found.append((*match.span(), Rank.SHAPE, Label.ZIP_CODE))


def _lettered(text: str, end: int, found: list[Candidate]) -> None:
    match = touching(_LETTERED, text, end, 8, 12)
    if match:
        found.append((*match.span(), Rank.SHAPE, Label.ZIP_CODE))


_DECIMAL_PAIR: Final = re.compile(
    # Four places and more: 8.102, 8.310 are thousands in half of the world.
    r"(?<![\w.])[-+]?(?P<lat>\d{1,2}\.\d{4,12})°?\s?[NS]?\s?[,;/ ]\s?(?:\"?(?:lon|lng|long|longitude?)\"?\s?[:=]\s?)?"
    r"[-+]?(?P<lon>1?\d{1,2}\.\d{4,12})°?\s?[EWO]?(?![\w.]\w)",
    re.ASCII,
)
_ARC: Final = r"\d{1,3}\s?°\s?\d{1,2}\s?['′’]\s?(?:\d{1,2}(?:\.\d+)?\s?(?:\"|″|”|'')\s?)?[NSEWO]"
_SEXAGESIMAL: Final = re.compile(rf"{_ARC}(?:[ ,/]{{0,3}}{_ARC})?")


def _decimal(text: str, end: int, found: list[Candidate]) -> None:
    match = touching(_DECIMAL_PAIR, text, end, 36, 16)
    if match and float(match["lat"]) <= 90 and float(match["lon"]) <= 180:
        found.append((*match.span(), Rank.SHAPE, Label.GEO_COORD))


def _sexagesimal(text: str, end: int, found: list[Candidate]) -> None:
    match = from_digit(_SEXAGESIMAL, text, end, 24, 40)
    if match:
        found.append((*match.span(), Rank.SHAPE, Label.GEO_COORD))


RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer("zip-state", _behind_state, (r"[A-Z]{2},? \d{5}\b",), near=True),
    Recognizer("zip-plus-4", _plus_4, (r"\b\d{5}-\d{4}\b",), digits=True),
    Recognizer("zip-letters", _lettered, (r"[A-Z]\d[A-Z\d]?[ -]?\d[A-Z][A-Z\d]\b",), near=True),
    Recognizer(
        "geo-decimal",
        _decimal,
        (r"\d{1,2}\.\d{4,12}(?:°)?\s?[NS]?\s?[,;/ ]\s?(?:\"?\w{2,9}\"?\s?[:=]\s?)?[-+]?1?\d{1,2}\.\d{4}",),
        digits=True,
    ),
    Recognizer("geo-sexagesimal", _sexagesimal, (r"\d°\s?\d{1,2}\s?(?:'|′|’)",)),
)
