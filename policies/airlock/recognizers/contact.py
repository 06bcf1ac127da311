"""E-mail addresses, telephone and fax numbers."""

import re
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.phone_lengths import NATIONAL_LENGTHS
from policies.airlock.recognizers.recognizer import (
    Candidate,
    Rank,
    Recognizer,
    cased,
    digit_count,
    either,
    phrases,
    touching,
    trie,
    words,
)

# RFC 6531 allows any letter outside ASCII on both sides; what separates an address from prose is its punctuation.
_EDGE = r"\s\0@<>()\[\]{},;:\"`=|/\\&!?*~#%^“”„‘’«»。，、；：！？（）「」【】"
_LOCAL_BACKWARDS: Final = re.compile(rf"[^{_EDGE}']([^{_EDGE}]{{0,62}}[^{_EDGE}'])?")
_LABEL = rf"[^{_EDGE}'.$+_](?:[^{_EDGE}'.$+]{{0,61}}[^{_EDGE}'.$+_-])?"
_DOMAIN: Final = re.compile(
    rf"(?:{_LABEL}\.){{1,8}}(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}(?![A-Za-z0-9_])|[^\x00-\x7f。，、；：！？（）]{{2,24}})"
    r"|\[(?:\d{1,3}\.){3}\d{1,3}\]"
)
_ASCII_TAIL: Final = re.compile(r"[A-Za-z0-9][!-~]*\Z")


def _email(text: str, end: int, found: list[Candidate]) -> None:
    domain = _DOMAIN.match(text, end)
    if domain is None or domain.end() - end > 253:
        return
    at = end - 1
    # Read backwards: the local part ends at the @ and begins wherever it can.
    local = _LOCAL_BACKWARDS.match(text[max(0, at - 64) : at][::-1])
    if local is None:
        return
    start = at - local.end()
    if not text[start].isascii() and text[at - 1].isascii():
        # Chinese and Japanese set no space before an address: 邮箱user@example.com
        tail = _ASCII_TAIL.search(text, start, at)
        start = tail.start() if tail and "\u3040" <= text[tail.start() - 1] <= "\ud7ff" else start
    found.append((start, domain.end(), Rank.ENCLOSING, Label.EMAIL))


_EXTENSION = r"(?:[ ,;]{0,2}(?:x|[Ee]xt\.?|[Ee]xtn\.?|[Ee]xtension|EXT\.?|Durchwahl|poste)[ .:]{0,2}\d{1,6}(?!\d))?"
_NANP: Final = re.compile(
    r"(?<![\w.])(?<!\d[-/])(?:\+?1[-. ]{0,2})?\(?\d{3}\)?[-. /]{0,2}\d{3}[-. ]\d{4}(?![\w-])(?!\.\d)" + _EXTENSION,
    re.ASCII,
)
_INTERNATIONAL: Final = re.compile(
    r"(?<![\w+.])(?<!\d-)(?:\+|00)\(?[1-9]\d{0,2}\n?(?:[ .\-/]{0,2}\(?\d{1,9}+\)?){1,9}+(?![A-Za-wyz_])" + _EXTENSION,
    re.ASCII,
)
_ANY_DIGIT: Final = re.compile("[0-9]")
_GROUP: Final = re.compile(r"\d+")
_TAIL: Final = re.compile(r"\)?" + _EXTENSION)
_NATIONAL: Final = re.compile(
    r"(?<![\w.+-])(?!\d{5}-\d{4}\b)\(?0\d{1,4}\)?(?:[ ./\n-]\d{2,9})(?:[ ./-]\d{2,9}){0,4}(?!\w)(?!\.\d)" + _EXTENSION,
    re.ASCII,
)
_NUMERIC_DATE: Final = re.compile(
    r"(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)?\d\d|(?:19|20)\d\d[./-]\d{1,2}[./-]\d{1,2})(?!\d|[./-]\d)", re.ASCII
)
_FILLER_WORDS: Final = words("""
    is was at on no nos num nr number numbers me us him her them back home work office mobile cell day night under to or
    es ist est é número numéro nummer numero номер 号码 番号 번호 है नंबर 是 为
""")
_AFTER_KEYWORD: Final = re.compile(
    r"(?:[^\x00-\x7f]{1,4})?+"  # the ending of an inflected word: номер телефона
    r"(?:[^\S\n]|[:=#.,;()\[\]{}\"'*_|>~：/\\-]|\n(?=\s{0,4}[+(\d])|"
    rf"{trie(cased(_FILLER_WORDS))}(?![A-Za-z0-9])|<[^<>\n]{{1,40}}>){{0,8}}+"
    r"(?P<v>(?:\+|00)?\(?\d{1,5}\)?\n?(?:[ .\-/]{0,2}\(?\d{1,9}+\)?){1,9}+" + _EXTENSION + ")(?![\\w@])(?!-\\d)",
    re.ASCII,
)


_NINE_TO_TWELVE: Final = digit_count(9, 12)
_SEVEN_TO_FIFTEEN: Final = digit_count(7, 15)  # E.164


def _nanp(text: str, end: int, found: list[Candidate]) -> None:
    # It begins with a digit, or with the character right before one.
    digit = _ANY_DIGIT.search(text, end - 19 if end > 19 else 0, end)
    start = digit.start() if digit else end
    start -= start > 0 and text[start - 1] in "(+"
    match = _NANP.search(text, start, end + 24)
    while match is not None and match.end() < end:
        match = _NANP.search(text, match.end(), end + 24)
    if match is not None and match.start() < end:
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
    digits = "".join(_GROUP.findall(text, start, min(end, start + 10))).removeprefix("00")
    code = next((digits[:n] for n in (1, 2, 3) if digits[:n] in NATIONAL_LENGTHS), None)
    if code is None:
        return 0
    shortest, longest = NATIONAL_LENGTHS[code]
    # One digit more than the table says: people write the trunk zero, +49 (0)30 ...
    most = len(code) + longest + 1
    total = 0
    stop = 0
    for group in _GROUP.finditer(text, start, end):
        length = group.end() - group.start()
        if stop and total + length > most:
            break
        total += length
        stop = group.end()
    if not len(code) + max(shortest, 6) <= total <= 17:
        return 0
    if stop == end:
        return end
    tail = _TAIL.match(text, stop)
    return tail.end() if tail else stop


def _national(text: str, end: int, found: list[Candidate]) -> None:
    match = touching(_NATIONAL, text, end, 18, 40)
    if match is None or not _NINE_TO_TWELVE.fullmatch(match.group()):
        return
    if not _NUMERIC_DATE.match(text, match.start()):
        found.append((*match.span(), Rank.SHAPE, Label.PHONE))


def _phone_word(text: str, end: int, found: list[Candidate]) -> None:
    found.append((end, end, Rank.HINT, Label.PHONE))
    _announced_phone(text, end, found, Rank.KEYED)


def _contact_word(text: str, end: int, found: list[Candidate]) -> None:
    found.append((end, end, Rank.HINT, Label.PHONE))
    _announced_phone(text, end, found, Rank.LIKELY)


def _announced_phone(text: str, end: int, found: list[Candidate], rank: int) -> None:
    match = _AFTER_KEYWORD.match(text, end)
    if match is None or (end < len(text) and text[end].isalpha() and text[end].isascii() and match.start("v") == end):
        return
    start, stop = match.span("v")
    if _NUMERIC_DATE.match(text, start):
        return
    if _SEVEN_TO_FIFTEEN.fullmatch(match["v"]):
        # What may stand between keyword and number took the parenthesis that opens an area code.
        opens = text[start - 1] == "(" and 0 <= match["v"].find(")") < (match["v"] + "(").find("(")
        found.append((start - opens, stop, rank, Label.PHONE))


PHONE_WORDS: Final = phrases("""
    phone | phones | telephone | tel | tele | mobile | mobil | cell | cellphone | cellular | sms | whatsapp | callback |
    call back | pager | beeper | landline | hotline | contact number | contact no | ph | mob | handy | telefon | rufnummer | telefono | cellulare | telefone | celular | telemóvel | teléfono | telf | tfno | tlf |
    tfn | móvil | téléphone | portable | telefoon | gsm | komórka | telefoni | puhelin | mobiltelefon | cep | numer
    telefonu | điện thoại | sđt | τηλ | τηλέφωνο | тел | телефон | моб | мобильный | 电话 | 手机 | 联系方式 | 電話 | 携帯 | 手機 | 전화
    | 휴대폰 | 연락처 | फोन | फ़ोन | मोबाइल | هاتف | جوال | تلفون | الهاتف | โทร
""")
CONTACT_WORDS: Final = phrases(
    "call | dial | text | contact | reach | ring | signal | contacto | kontakt | llame | appelez"
)
"""Words that announce a line, but an address, a card or anything else as well."""
FAX_WORDS: Final = phrases("""
    fax | facsimile | telefax | telecopy | télécopie | télécopieur | факс | 传真 | 傳真 | ファックス | ファクス | 팩스 | फैक्स | فاكس
""")

_FAX: Final = either(*FAX_WORDS)
_FAX_BEHIND: Final = re.compile(
    rf"\s{{0,2}}\(\s?(?:{_FAX}|f)\s?\)|\s(?:{_FAX})\b(?!\W{{0,4}}(?:\w+\W{{1,3}})?[+(\d])", re.IGNORECASE
)
FAX_REACH: Final = 64
"""Characters between the word for a line and its number."""


def is_fax(text: str, announced: bool, end: int) -> bool:
    """Whether the telephone number that ends at `end` is for a fax: the nearest word for a line before it says so, or
    the one behind it."""
    return announced or _FAX_BEHIND.match(text, end) is not None


def _fax(text: str, end: int, found: list[Candidate]) -> None:
    # Not a finding: an empty span tells the scan where to look at telephone numbers again.
    found.append((end, end, Rank.HINT, Label.FAX))
    _announced_phone(text, end, found, Rank.KEYED)


RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer("email", _email, (r"[^\s@]@",)),
    Recognizer("phone-nanp", _nanp, (r"\d{3}[)]?[-. /]{0,2}\d{3}[-. ]\d{4}\b",), digits=True),
    Recognizer("phone-international", _international, (r"\+\(?[1-9]", r"\b00[1-9]\d{0,2}[ .\-/(]"), digits=True),
    Recognizer(
        "phone-national",
        _national,
        (r"[^\w.+-]0\d{1,4}\)?[ .\n-]\d{2,9}\b", r"[^\w.+-]0\d{2,4}\)?/\d{4,9}\b"),
        digits=True,
    ),
    Recognizer("phone-keyed", _phone_word, words=PHONE_WORDS, near=True),
    Recognizer("phone-contact", _contact_word, words=CONTACT_WORDS, near=True),
    Recognizer("fax-keyed", _fax, words=FAX_WORDS, near=True),
)
