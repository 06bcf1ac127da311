"""Columns of CSV, TSV and markdown tables: the keyword stands in the header, the value lines below it."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from policies.airlock.labels import Label
from policies.airlock.recognizers import contact, dates, keyed, people
from policies.airlock.recognizers.recognizer import Candidate, Rank, digit_count, phrases

DELIMITERS: Final = ",;|\t"
_LONGEST_LINE: Final = 4096

_WORDS: Final = re.compile(r"[^\W\d_]+")
_HEADER_CELL: Final = re.compile(r"[\s\"'*]*[^\W\d][\w \t./#()'*-]{0,48}[\s\"'*]*")
_RULE: Final = re.compile(r"[\s|:-]+")
_EMPTY: Final = frozenset({"", "-", "--", "na", "n/a", "none", "null", "nil", "unknown", "?", "tbd"})
_IDENTIFIER: Final = digit_count(3)
_LONG_IDENTIFIER: Final = digit_count(5)
"""A column named just `id` counts rows, mostly."""
_LEADING: Final = re.compile(r"\S+(?:[ ]\S*\d\S*){0,6}")
_MONTH_AND_DAY: Final = re.compile(r"[^\W\d_]{3,12}\.? \d{1,2}(?:st|nd|rd|th)?")
_YEAR: Final = re.compile(r"\d{4}")
_LETTER: Final = re.compile(r"[^\W\d_]")


class Column(NamedTuple):
    """What stands below a header cell."""

    position: int
    label: Label


def _normal(cell: str) -> str:
    return " ".join(_WORDS.findall(cell)).lower()


def _headers() -> dict[str, Label]:
    headers = {_normal(word): kind.label for kind in reversed(keyed.KEYED) for word in kind.words}
    headers |= dict.fromkeys(map(_normal, contact.PHONE_WORDS), Label.PHONE)
    headers |= dict.fromkeys(map(_normal, contact.FAX_WORDS), Label.FAX)
    headers |= dict.fromkeys(map(_normal, dates.BIRTH_WORDS), Label.DATE_OF_BIRTH)
    headers |= dict.fromkeys(map(_normal, people.FIELDS), Label.NAME)
    for label, names in (
        (Label.EMAIL, "email | e mail | mail | email address | correo | correo electrónico"),
        (Label.PHONE, "phone number | telephone number | mobile number | cell phone | home phone | work phone"),
        (
            Label.NAME,
            "patient | doctor | provider | employee | customer | client | member | contact | firstname | lastname",
        ),
        (
            Label.ADDRESS,
            "address | street | street address | home address | mailing address | addr | dirección | adresse",
        ),
        (Label.LOCATION, "city | town | county | ciudad | ville | stadt"),
        (Label.DATE, "visit date | admission date | discharge date | service date | appointment | appointment date"),
        (Label.IP_ADDRESS, "ip | ip address"),
        (Label.URL, "url | website"),
    ):
        headers |= dict.fromkeys(map(_normal, phrases(names)), label)
    return {name: label for name, label in headers.items() if name}


_HEADERS: Final = _headers()
_DATES: Final = frozenset({Label.DATE, Label.DATE_OF_BIRTH})
_FREE: Final = frozenset({Label.NAME, Label.ADDRESS, Label.LOCATION})
"""Columns of words, which mean a person only beside a column of numbers that do."""


def table(text: str, end: int, found: list[Candidate]) -> int:
    """Appends the cells of the table in whose header a keyword ends at `end`; where the table ends, or `end` when
    there is none."""
    if text.find(")", end, end + 1024) >= 0:
        done = _insert(text, end, found)
        if done > end:
            return done
    first = text.rfind("\n", max(0, end - _LONGEST_LINE), end) + 1
    header_end = text.find("\n", end, end + _LONGEST_LINE)
    if header_end < 0:
        return end
    header = text[first:header_end]
    delimiter = max(DELIMITERS, key=header.count)
    cells = header.split(delimiter)
    if not _HEADER_CELL.fullmatch(cells[0]) and cells[0].strip():
        # Prose may end where the table begins.
        cells[0] = "" if delimiter == "|" else cells[0].split()[-1]
    if len(cells) < 2 or not all(_HEADER_CELL.fullmatch(cell) for cell in cells if cell.strip()):
        return end
    columns = [Column(i, label) for i, cell in enumerate(cells) if (label := _HEADERS.get(_normal(cell)))]
    if all(column.label in _FREE for column in columns):
        return end
    done = header_end
    for row_start, row_end in _rows(text, header_end + 1):
        row = text[row_start:row_end]
        if _RULE.fullmatch(row):
            continue
        spans = _aligned(row, list(_cells(row, delimiter)), len(cells), columns)
        if spans is None:
            break
        done = row_end
        for position, label in columns:
            start, stop = spans[position]
            if label not in _FREE | _DATES and (value := _LEADING.match(row, start, stop)):
                stop = value.end()  # what was pasted behind the last cell is no part of it
            if _is_value(label, row[start:stop]):
                found.append((row_start + start, row_start + stop, Rank.KEYED, label))
    return done


def _aligned(row: str, spans: list[tuple[int, int]], width: int, columns: list[Column]) -> list[tuple[int, int]] | None:
    """The row's spans as many as the header has cells. None: it is no row of this table.

    Exports forget quotes: in `Doe, Jane,May 2, 1980` the name takes two cells, and so does the date.
    """
    for i in range(len(spans) - 2, -1, -1):
        if len(spans) > width and _MONTH_AND_DAY.fullmatch(row, *spans[i]) and _YEAR.fullmatch(row, *spans[i + 1]):
            spans[i : i + 2] = [(spans[i][0], spans[i + 1][1])]
    extra = len(spans) - width
    if extra > 0 and (name := next((c.position for c in columns if c.label is Label.NAME), None)) is not None:
        spans[name : name + extra + 1] = [(spans[name][0], spans[name + extra][1])]
    return spans if len(spans) == width else None


def _rows(text: str, start: int) -> Iterator[tuple[int, int]]:
    while start < len(text):
        end = text.find("\n", start, start + _LONGEST_LINE)
        if end < 0:
            end = min(len(text), start + _LONGEST_LINE)
        yield start, end
        start = end + 1


def _cells(row: str, delimiter: str) -> Iterator[tuple[int, int]]:
    """Start and end of every cell, without its quotes and white space. A delimiter within quotes divides nothing."""
    start, quoted = 0, False
    for i, char in enumerate(row):
        if char == '"':
            quoted = not quoted
        elif char == delimiter and not quoted:
            yield _stripped(row, start, i)
            start = i + 1
    yield _stripped(row, start, len(row))


def _stripped(row: str, start: int, end: int) -> tuple[int, int]:
    while start < end and row[start] in " \t\r\"'*":
        start += 1
    while end > start and row[end - 1] in " \t\r\"'*":
        end -= 1
    return start, end


def _is_value(label: Label, value: str) -> bool:
    if value.lower() in _EMPTY or len(value) > 120:
        return False
    if label in _FREE:
        return _LETTER.search(value) is not None
    if label is Label.DATE_OF_BIRTH:
        return any(char.isdigit() for char in value)
    if label is Label.DATE:
        return value[-1].isdigit() and _IDENTIFIER.fullmatch(value) is not None
    if label in {Label.EMAIL, Label.URL, Label.IP_ADDRESS}:
        return "." in value or ":" in value
    return (_LONG_IDENTIFIER if label is Label.UNIQUE_ID else _IDENTIFIER).fullmatch(value) is not None


_COLUMNS: Final = re.compile(r"\(\s*([\w.`\"\[\]]+(?:\s*,\s*[\w.`\"\[\]]+)*)\s*\)\s*VALUES\s*", re.IGNORECASE)
_TUPLE: Final = re.compile(r"\s*\(((?:'(?:[^']|'')*'|[^()'])*)\)\s*,?")
_FIELD: Final = re.compile(r"\s*('(?:[^']|'')*'|[^,']*)\s*(?:,|$)")


def _insert(text: str, end: int, found: list[Candidate]) -> int:
    """The same for `INSERT INTO t (mrn, phone) VALUES ('...', '...'), (...)`."""
    opening = text.rfind("(", max(0, end - 1024), end)
    match = _COLUMNS.match(text, opening, end + 1024) if opening >= 0 else None
    if match is None:
        return end
    labels = [_HEADERS.get(_normal(name)) for name in match[1].split(",")]
    done = match.end()
    while row := _TUPLE.match(text, done, done + _LONGEST_LINE):
        done = row.end()
        position = row.start(1)
        for label in labels:
            field = _FIELD.match(text, position, row.end(1))
            if field is None:
                break
            start, stop = field.span(1)
            if text[start] == "'":
                start, stop = start + 1, stop - 1
            if label and stop > start and _is_value(label, text[start:stop]):
                found.append((start, stop, Rank.KEYED, label))
            position = field.end()
    return done
