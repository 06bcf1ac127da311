"""E-mail addresses, telephone and fax numbers."""

import re
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.phone_lengths import NATIONAL_LENGTHS
from policies.airlock.recognizers.recognizer import Candidate, Rank, Recognizer, either, phrases

# RFC 6531 allows any letter outside ASCII on both sides; what separates an address from prose is its punctuation.
_EDGE = r"\s\0@<>()\[\]{},;:\"`=|/\\&!?*~#%^“”„‘’«»。，、；：！？（）「」【】"
_LOCAL: Final = re.compile(rf"(?<![^{_EDGE}'])[^{_EDGE}'](?:[^{_EDGE}]{{0,62}}[^{_EDGE}'])?\Z")
_LABEL = rf"[^{_EDGE}'.$+_](?:[^{_EDGE}'.$+]{{0,61}}[^{_EDGE}'.$+_-])?"
_DOMAIN: Final = re.compile(
    rf"(?:{_LABEL}\.){{1,8}}(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}(?![A-Za-z0-9_])|[^\x00-\x7f。，、；：！？（）]{{2,24}})"
    r"|\[?(?:\d{1,3}\.){3}\d{1,3}\]?"
)
_ASCII_TAIL: Final = re.compile(r"[A-Za-z0-9][!-~]*\Z")


def _email(text: str, end: int, found: list[Candidate]) -> None:
    at = end - 1
    local = _LOCAL.search(text, max(0, at - 64), at)
    domain = _DOMAIN.match(text, end)
    if local is None or domain is None or domain.end() - end > 253:
        return
    start = local.start()
    if not text[start].isascii() and text[at - 1].isascii():
        # Chinese and Japanese set no space before an address: 邮箱user@example.com
        tail = _ASCII_TAIL.search(text, start, at)
        start = tail.start() if tail and "\u3040" <= text[tail.start() - 1] <= "\ud7ff" else start
    found.append((start, domain.end(), Rank.ENCLOSING, Label.EMAIL))


_EXTENSION = r"(?:[ ,;]{0,2}(?:x|ext\.?|extn\.?|extension|durchwahl|poste)[ .:]{0,2}\d{1,6}(?!\d))?"
_NANP: Final = re.compile(
    r"(?<![\w.])(?<!\d[-/])(?:\+?1[-. ]{0,2})?\(?\d{3}\)?[-. /]{0,2}\d{3}[-. ]\d{4}(?![\w-])(?!\.\d)" + _EXTENSION,
    re.IGNORECASE,
)
_INTERNATIONAL: Final = re.compile(
    r"(?<![\w+.])(?:\+|00)\(?[1-9](?:[ .\-/]{0,2}\(?\d{1,9}\)?){2,9}(?!\w)" + _EXTENSION, re.IGNORECASE
)
_GROUP: Final = re.compile(r"\d+")
_NATIONAL: Final = re.compile(
    r"(?<![\w.+-])\(?0\d{1,4}\)?(?:[ ./-]\d{2,9}){1,5}(?![\w])(?!\.\d)" + _EXTENSION, re.IGNORECASE
)
_NUMERIC_DATE: Final = re.compile(
    r"(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)?\d\d|(?:19|20)\d\d[./-]\d{1,2}[./-]\d{1,2})(?!\d)"
)
_AFTER_KEYWORD: Final = re.compile(
    r"(?:[^\S\n]|[:=#.,;()\[\]{}\"'*_|>~/\\-]|\n(?=\s{0,4}[+(\d])|(?:is|was|at|on|no|nos|num|nr|number|numbers|me|us|him|her|them|back|"
    r"home|work|office|mobile|cell|day|night|under|to|or|is:|es|ist|est|é|número|numéro|nummer|numero|номер|号码|番号|번호|है|नंबर|"
    r"是|为|：)(?![A-Za-z0-9])|<[^<>\n]{1,40}>){0,8}+"
    r"(?P<v>(?:\+|00)?\(?\d(?:[ .\-/]{0,2}\(?\d{1,9}\)?){1,9}" + _EXTENSION + ")(?![\\w@])(?!-\\d)",
    re.IGNORECASE,
)


def _digits(text: str) -> int:
    return sum(char.isdecimal() for char in text)


def _nanp(text: str, end: int, found: list[Candidate]) -> None:
    match = _NANP.search(text, max(0, end - 19))
    if match and match.start() < end:
        found.append((*match.span(), Rank.SHAPE, Label.PHONE))


def _international(text: str, end: int, found: list[Candidate]) -> None:
    start = max(text.rfind("+", max(0, end - 3), end), text.rfind("00", max(0, end - 4), end))
    match = _INTERNATIONAL.match(text, start) if start >= 0 else None
    if match is None:
        return
    stop = _dialable(text, start, match.end())
    if stop:
        found.append((start, stop, Rank.CHECKED, Label.PHONE))


def _dialable(text: str, start: int, end: int) -> int:
    """Where an international number ends that may run on into other digits; 0: no country has such a number."""
    groups = [(m.end(), len(m.group())) for m in _GROUP.finditer(text, start, end)]
    digits = "".join(m.group() for m in _GROUP.finditer(text, start, end)).removeprefix("00")
    code = next((digits[:n] for n in (1, 2, 3) if digits[:n] in NATIONAL_LENGTHS), None)
    if code is None:
        return 0
    shortest, longest = NATIONAL_LENGTHS[code]
    # One digit more than the table says: people write the trunk zero, +49 (0)30 ...
    most = len(code) + longest + 1
    total = 0
    stop = 0
    for group_end, length in groups:
        if stop and total + length > most:
            break
        total += length
        stop = group_end
    if not len(code) + max(shortest, 6) <= total <= 17:
        return 0
    tail = re.compile(r"\)?" + _EXTENSION, re.IGNORECASE).match(text, stop)
    return tail.end() if tail else stop


def _national(text: str, end: int, found: list[Candidate]) -> None:
    match = _NATIONAL.search(text, max(0, end - 18))
    if match is None or match.start() >= end or _NUMERIC_DATE.match(text, match.start()):
        return
    if 9 <= _digits(match.group()) <= 12:
        found.append((*match.span(), Rank.SHAPE, Label.PHONE))


def _keyed_phone(text: str, end: int, found: list[Candidate]) -> None:
    match = _AFTER_KEYWORD.match(text, end)
    if match is None or (end < len(text) and text[end].isalpha() and text[end].isascii() and match.start("v") == end):
        return
    start, stop = match.span("v")
    if _NUMERIC_DATE.match(text, start):
        return
    if 7 <= _digits(match.group("v")) <= 16:
        found.append((start, stop, Rank.KEYED, Label.PHONE))


PHONE_WORDS: Final = phrases("""
    phone | phones | telephone | tel | tele | mobile | mobil | cell | cellphone | cellular | call | dial | sms | text |
    whatsapp | signal | callback | call back | pager | beeper | landline | hotline | contact | reach | ring | ph | mob |
    handy | telefon | rufnummer | telefono | cellulare | telefone | celular | telemóvel | teléfono | telf | tfno | tlf |
    tfn | móvil | téléphone | portable | telefoon | gsm | komórka | telefoni | puhelin | mobiltelefon | cep | numer
    telefonu | điện thoại | sđt | τηλ | τηλέφωνο | тел | телефон | моб | мобильный | 电话 | 手机 | 联系方式 | 電話 | 携帯 | 手機 | 전화
    | 휴대폰 | 연락처 | फोन | फ़ोन | मोबाइल | هاتف | جوال | تلفون | الهاتف | โทร
""")
FAX_WORDS: Final = phrases("""
    fax | facsimile | telefax | telecopy | télécopie | télécopieur | факс | 传真 | 傳真 | ファックス | ファクス | 팩스 | फैक्स | فاكس
""")

_FAX: Final = either(*FAX_WORDS)
_PHONE: Final = either(*(word for word in PHONE_WORDS if word not in {"call", "contact", "reach", "text"}))
_NEAREST: Final = re.compile(rf"(?P<fax>{_FAX})|(?P<phone>(?<![A-Za-z])(?:{_PHONE})(?![A-Za-z]))", re.IGNORECASE)
_FAX_BEHIND: Final = re.compile(
    rf"\s{{0,2}}\(\s?(?:{_FAX}|f)\s?\)|\s(?:{_FAX})\b(?!\W{{0,4}}(?:\w+\W{{1,3}})?[+(\d])", re.IGNORECASE
)


def is_fax(text: str, start: int, end: int) -> bool:
    """Whether the telephone number at `text[start:end]` is for a fax: `(fax)` behind it, or the nearest word for a line
    in the 64 characters before it."""
    if _FAX_BEHIND.match(text, end):
        return True
    kinds = [match.lastgroup for match in _NEAREST.finditer(text, max(0, start - 64), start)]
    return kinds[-1:] == ["fax"]


def _fax(text: str, end: int, found: list[Candidate]) -> None:
    # Not a finding: an empty span tells the scan that telephone numbers must be looked at again.
    found.append((end, end, Rank.HINT, Label.FAX))
    _keyed_phone(text, end, found)


RECOGNIZERS: Final = (
    Recognizer("email", _email, (r"[^\s@]@",)),
    Recognizer("phone-nanp", _nanp, (r"\d{3}[)]?[-. /]{0,2}\d{3}[-. ]\d{4}\b",), digits=True),
    Recognizer("phone-international", _international, (r"\+\(?[1-9]", r"\b00[1-9]\d{0,2}[ .\-/(]"), digits=True),
    Recognizer("phone-national", _national, (r"\b0\d{1,4}\)?[ ./-]\d{2,9}",), digits=True),
    Recognizer("phone-keyed", _keyed_phone, words=PHONE_WORDS),
    Recognizer("fax-keyed", _fax, words=FAX_WORDS),
)
