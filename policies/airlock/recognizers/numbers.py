"""Numbers that their shape or check digit gives away without a keyword."""

import re
from collections.abc import Callable
from string import digits as ascii_digits
from typing import Final

from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ch import ssn as ahv
from stdnum.cn import ric
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.in_ import pan
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp

from policies.airlock import checks
from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import Candidate, Confirm, Rank, Recognizer, touching

_SEPARATORS: Final = str.maketrans("", "", " -.\n/")

_SSN: Final = re.compile(r"(?<![\w.])(?<!\d-)\d{3}([-. \n])\d{2}([-. \n])\d{4}(?!\w)(?![-.]\d)", re.ASCII)


def _ssn(text: str, end: int, found: list[Candidate]) -> None:
    match = _SSN.match(text, end - 11)
    if match and (match[1] == match[2] or "\n" in match.groups()) and match.groups() != ("\n", "\n"):
        found.append((*match.span(), Rank.SHAPE, Label.SSN))


_RUN: Final = re.compile(r"(?<![\w+$€£#])(?<![\w][-./_])\d{8,19}(?!\w)(?![-./]\w)", re.ASCII)


def _run(text: str, end: int, found: list[Candidate]) -> None:
    match = _RUN.match(text, _run_start(text, end))
    if match is None:
        return
    digits = match.group()
    kind = _kind_of_run(digits)
    if kind:
        found.append((*match.span(), *kind))


def _run_start(text: str, end: int) -> int:
    floor = end - 20 if end > 20 else 0
    return floor + len(text[floor:end].rstrip(ascii_digits))


def _kind_of_run(digits: str) -> tuple[int, Label] | None:
    match len(digits):
        case 8:
            return (Rank.HINT, Label.DATE) if _is_compact_date(digits) else None
        case 10:
            # North American numbers: area code and exchange begin with 2 to 9.
            return (Rank.HINT, Label.PHONE) if digits[0] > "1" and digits[3] > "1" else None
        case 11:
            return (Rank.HINT, Label.PHONE) if digits[0] == "1" and digits[1] > "1" and digits[4] > "1" else None
        case 15 if checks.is_imei(digits):
            return Rank.CHECKED, Label.DEVICE_SERIAL
        case _:
            pass
    return (Rank.CHECKED, Label.CREDIT_CARD) if len(digits) > 11 and checks.is_card(digits) else None


def _is_compact_date(digits: str) -> bool:
    return 1900 <= int(digits[:4]) <= 2035 and 1 <= int(digits[4:6]) <= 12 and 1 <= int(digits[6:]) <= 31


_CARD: Final = re.compile(
    # Groups of four; American Express and old Diners 4-6-5 and 4-6-4; 4-5-6. A line may break behind the first.
    r"(?<![\w+])(?<!\d[-.])\d{4}[-. \n](?:\d{4}[-. ]\d{4}[-. ]\d{1,7}|\d{6}[-. ]\d{4,5}|\d{5}[-. ]\d{6})"
    r"(?!\w)(?![-.]\d)",
    re.ASCII,
)


def _card(text: str, end: int, found: list[Candidate]) -> None:
    match = touching(_CARD, text, end, 23, 8)
    if match is None:
        return
    digits = match.group().translate(_SEPARATORS)
    if checks.is_card_range(digits):
        # Written like a card, numbered like a card, wrong check digit: a typing error or an invented one.
        found.append((*match.span(), Rank.CHECKED if checks.is_luhn(digits) else Rank.SHAPE, Label.CREDIT_CARD))


_FOURS: Final = re.compile(r"(?<![\w+])(?<!\d[-. ])[2-9]\d{3}[-. \n]\d{4}[-. ]\d{4}(?!\w)(?![-. ]\d)", re.ASCII)


def _aadhaar(text: str, end: int, found: list[Candidate]) -> None:
    match = _FOURS.match(text, end - 14)
    if match and checks.is_aadhaar(match.group().translate(_SEPARATORS)):
        found.append((*match.span(), Rank.CHECKED, Label.AADHAAR))


_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ .\n-]?[A-Z0-9]){11,30}", re.IGNORECASE)
_IBAN_BEFORE: Final = re.compile(r"iban\W{0,4}(?:\w+\W{1,3}){0,3}\Z", re.IGNORECASE)


def _iban(text: str, end: int, found: list[Candidate]) -> None:
    match = touching(_IBAN, text, end, 20, 60)
    if match is None:
        return
    start = match.start()
    length = checks.iban_length(text[start : start + 2].upper())
    compact = match.group().translate(_SEPARATORS).upper()[:length]
    if not length or len(compact) < length:
        return
    stop = start
    for _ in range(length):
        while text[stop] in " .\n-":
            stop += 1
        stop += 1
    if stop < len(text) and text[stop].isalnum():
        return
    if checks.is_iban(compact):
        found.append((start, stop, Rank.CHECKED, Label.IBAN))
    elif _IBAN_BEFORE.search(text, max(0, start - 40), start):
        found.append((start, stop, Rank.KEYED, Label.IBAN))


_VIN: Final = re.compile(r"(?<![A-Za-z0-9])[A-HJ-NPR-Z0-9]{17}(?![A-Za-z0-9])")


def _vin(text: str, end: int, found: list[Candidate]) -> None:
    match = _VIN.match(text, end - 17)
    if match and not match.group().isdecimal() and checks.is_vin(match.group()):
        found.append((*match.span(), Rank.CHECKED, Label.VEHICLE_ID))


_MBI: Final = re.compile(
    # CMS: position 2, 5, 8 and 9 letters without S, L, O, I, B, Z; 3 and 6 letters or digits.
    r"(?<![A-Za-z0-9-])[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d{2}(?![A-Za-z0-9])"
)


def _mbi(text: str, end: int, found: list[Candidate]) -> None:
    match = touching(_MBI, text, end, 13, 2)
    if match and match.end() == end:
        found.append((*match.span(), Rank.CHECKED, Label.HEALTH_PLAN_ID))


_DEA: Final = re.compile(r"(?<![A-Za-z0-9-])[A-HJ-MPRSTUX][A-Z9]\d{7}(?![\w-])", re.ASCII)


def _dea(text: str, end: int, found: list[Candidate]) -> None:
    match = _DEA.match(text, end - 9)
    if match and checks.is_dea(match.group()):
        found.append((*match.span(), Rank.SHAPE, Label.CERTIFICATE_NUMBER))


_UDI: Final = re.compile(r"\(01\)\d{14}(?:\(\d{2,3}\)[A-Za-z0-9./-]{1,20}){0,4}")


def _udi(text: str, end: int, found: list[Candidate]) -> None:
    match = _UDI.match(text, end - 18)
    if match:
        found.append((*match.span(), Rank.CHECKED, Label.DEVICE_SERIAL))


def _is_nir(value: str) -> bool:
    """French social security: most of what has its shape fails by its key alone, at a tenth of what the library asks."""
    compact = value.replace(" ", "")
    if compact.isdecimal() and 97 - int(compact[:13]) % 97 != int(compact[13:]):
        return False
    return bool(nir.is_valid(value))


def _national(shape: str, valid: Callable[[str], bool], longest: int) -> Confirm:
    expression = re.compile(rf"(?<![\w])(?<!\w[-./])(?:{shape})(?!\w)(?![-./]\w)", re.ASCII)

    def confirm(text: str, end: int, found: list[Candidate]) -> None:
        match = touching(expression, text, end, longest, 1)
        if match and match.end() == end and valid(match.group()):
            found.append((*match.span(), Rank.CHECKED, Label.NATIONAL_ID))

    return confirm


NATIONAL: Final = (
    # name, shape, check, longest
    ("es-dni", r"\d{8}-?[A-HJ-NP-TV-Z]", dni.is_valid, 10),
    ("es-nie", r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", nie.is_valid, 11),
    ("it-codice-fiscale", r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]", codicefiscale.is_valid, 16),
    ("mx-curp", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d", curp.is_valid, 18),
    ("in-pan", r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", pan.is_valid, 10),
    ("br-cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}", cpf.is_valid, 14),
    ("cn-id", r"[1-9]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d{4}[0-9X]", ric.is_valid, 18),
    ("kr-rrn", r"\d{6}-[1-8]\d{6}", rrn.is_valid, 14),
    ("fr-nir", r"[12] ?\d{2} ?[0-3]\d ?\d[0-9AB] ?\d{3} ?\d{3} ?\d{2}", _is_nir, 21),
    ("fi-hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", hetu.is_valid, 11),
    ("ch-ahv", r"756\.\d{4}\.\d{4}\.\d{2}", ahv.is_valid, 16),
    ("be-nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", nn.is_valid, 15),
    ("gb-nino", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", lambda _: True, 13),
)

RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer(
        "ssn",
        _ssn,
        # Written out: a smaller automaton looks at every byte.
        (r"\b(?:\d{3}(?:-\d\d-|\.\d\d\.| \d\d )\d{4}|\d{3}\n\d\d[-. ]\d{4}|\d{3}[-. ]\d\d\n\d{4})\b",),
        digits=True,
    ),
    Recognizer(
        "digits",
        _run,
        # What `_kind_of_run` may believe: a compact date, a North American number, a card or a device.
        (r"\b(?:(?:19|20)\d\d[01]\d[0-3]\d|1?[2-9]\d\d[2-9]\d{6}|\d{12,19})\b",),
        digits=True,
    ),
    Recognizer(
        "card",
        _card,
        (r"\b\d{4}[-. \n](?:\d{4}[-. ]\d{4}[-. ]\d{1,7}|\d{6}[-. ]\d{4,5}|\d{5}[-. ]\d{6})\b",),
        digits=True,
    ),
    Recognizer("aadhaar", _aadhaar, (r"\b[2-9]\d{3}[-. \n]\d{4}[-. ]\d{4}\b",), digits=True),
    Recognizer(
        "iban", _iban, (r"\b[A-Z]{2}\d{2}(?:[ .\n-]?[A-Z0-9]{4}){2}[ .\n-]?[A-Z0-9]{3}",), caseless=True, digits=True
    ),
    Recognizer("vin", _vin, (r"\b[A-HJ-NPR-Z0-9]{17}\b",), digits=True),
    Recognizer("mbi", _mbi, (r"\b[1-9][A-Y][A-Y0-9]\d-?[A-Y][A-Y0-9]\d-?[A-Y]{2}\d{2}\b",), digits=True),
    Recognizer("dea", _dea, (r"\b[A-X][A-Z9]\d{7}\b",), digits=True),
    Recognizer("udi", _udi, (r"\(01\)\d{14}",), digits=True),
    *(
        Recognizer(name, _national(shape, valid, longest), (rf"\b(?:{shape})\b",), digits=True)
        for name, shape, valid, longest in NATIONAL
    ),
)
