"""The ways in which a text may be read: as it stands, and with one layer of disguise taken off.

A model reads through disguises that a phrase list does not: zero-width letters, look-alikes of other scripts, tag
characters, base64. A `Reader` gives every reading worth scoring, each in two forms: `words` (lower-case folded words
between single blanks) and `marks` (folded, punctuation kept).

Limits: one layer of encoding (base64 within base64 is not opened), no decryption, no images. At most `MAX_DECODED`
characters are decoded beside the text itself.
"""

import base64
import binascii
import codecs
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import hyperscan

from policies.compiled import compiled

MAX_DECODED: Final = 1 << 16
"""Characters that are decoded at most, over all encodings."""

_SHORTEST: Final = 8
"""Characters of a decoded text that is worth reading."""
_TAGS: Final = re.compile("[\U000e0020-\U000e007e]+")
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)
_QUOTES: Final = tuple(dict.fromkeys("‘’‚‛′", "'").items()) + tuple(dict.fromkeys("“”„‟″«»", '"').items())
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_BLANKED: Final = bytes(c if chr(c).isalnum() or c >= 0x80 else 0x20 for c in range(256))
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[\s:,]?){12,}")
_HEX_NOISE: Final = re.compile(r"0x|\\x|[\s:,]")
_ESCAPES: Final = re.compile(
    r"\\u([0-9A-Fa-f]{4})|\\u\{([0-9A-Fa-f]{1,6})\}|\\x([0-9A-Fa-f]{2})|\\U([0-9A-Fa-f]{8})|\\([0-7]{3})"
)
_SPACED: Final = re.compile(r"(?:(?<![^\W_])[^\W_][ \t.\-_*|/]{1,4}){7,}[^\W_](?![^\W_])")
_GAP: Final = re.compile(r"[ \t.\-_*|/]{2,}")
_MIXED: Final = re.compile(r"(?<=[a-z])[0134578@$!|]{1,3}|[0134578@$!|]{1,3}(?=[a-z])")
_LEET: Final = str.maketrans("0134578@$!|", "oieastbasil")

# Letters of other scripts that look like Latin ones. Folding is for scoring only; no text is changed by it.
_LOOKALIKES: Final = str.maketrans(
    "абвгдеёзіїјкмнорстухцѕԁԛԝһьӏ" + "αβγεηικνορτυχω" + "ɑɡɩɪɴʀʏʟᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ",
    "abbrdee3iijkmhopctyxusdqwhbl" + "abyenikvoptuxw" + "agiinrylacdejkmoptuvwz",
)
# Letters turned upside down, read from the right; `u` and `n`, `d` and `p`, `b` and `q` turn into each other.
_TURNED: Final = re.compile("[ɐɔǝɟƃɥɾʞɯɹʇʌʍʎ](?:.{0,8}[ɐɔǝɟƃɥɾʞɯɹʇʌʍʎ]){3}")
_TURN_BACK: Final = str.maketrans("ɐqɔpǝɟƃɥıɾʞlɯuodbɹsʇnʌʍxʎz¡¿'", "abcdefghijklmnopqrstuvwxyz!?,")
_NOT_LATIN: Final = re.compile("[\u0370-\u03ff\u0400-\u052f\u0250-\u02af\u1d00-\u1d7f]")


class _Disguise(StrEnum):
    """What may have to be taken off a text."""

    REVERSED = "reversed"
    ROT13 = "rot13"
    SPACED = "spaced"
    LEET = "leet"
    HEX = "hex"
    BASE64 = "base64"
    PERCENT = "percent"
    ENTITIES = "entities"
    ESCAPES = "escapes"


_SIGNS: Final = (
    # Words that betray a text written backwards or moved by 13 letters. Ordinary text holds none of them.
    (_Disguise.REVERSED, rb"snoitcurtsni|tpmorp|suoiverp|erongi|metsys|tegrof|dragersid|edirrevo"),
    (_Disguise.ROT13, rb"vtaber|vafgehpgvba|cebzcg|flfgrz|cerivbhf|sbetrg|qvfertneq|bireevqr|rot-?13"),
    (_Disguise.SPACED, rb"([^ ][ \t.\-_*|/]{1,4}){7}"),
    (_Disguise.LEET, rb"[a-z][0134578@$!|]{1,3}[a-z]"),
    (_Disguise.HEX, rb"((0x|\\x)?[0-9a-f]{2}[ \t\r\n:,]?){12}"),
    (_Disguise.BASE64, rb"[a-z0-9+/_-]{16}"),
    (_Disguise.PERCENT, rb"%[0-9a-f]{2}"),
    (_Disguise.ENTITIES, rb"&(#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8});"),
    (_Disguise.ESCAPES, rb"\\(u\{?[0-9a-f]{2}|x[0-9a-f]{2}|[0-7]{3})"),
)
"""Where a disguise may be: supersets of what the decoders look for, found in one pass over the folded text."""


class Expressions:
    """Compiled expressions, each under a number. May be used by several threads at once."""

    __slots__ = ("_database", "_scratches")

    def __init__(self, numbered: Iterable[tuple[int, bytes]]) -> None:
        flags = hyperscan.HS_FLAG_SINGLEMATCH
        self._database: Any = compiled([(expression, number, flags) for number, expression in numbered])
        self._scratches: list[Any] = []

    def found(self, data: bytes) -> set[int]:
        """Numbers of the expressions that `data` holds. Linear in `data`."""
        found: set[int] = set()
        # One scratch per scan in flight; `pop` and `append` of a list are atomic, so threads need no lock.
        try:
            scratch = self._scratches.pop()
        except IndexError:
            scratch = hyperscan.Scratch(self._database)
        try:
            self._database.scan(data, match_event_handler=_note, context=found, scratch=scratch)
        finally:
            self._scratches.append(scratch)
        return found


def _note(number: int, _start: int, _end: int, _flags: int, found: set[int]) -> None:
    found.add(number)


class View(NamedTuple):
    """One reading of a text, as UTF-8."""

    words: bytes
    """` like this `: folded words, one blank between, before and after them."""
    marks: bytes
    """Folded and lower-case, with punctuation and line ends."""
    disguise: str
    """What had to be taken off: a bounded name, empty for the text as it stands."""


class Reader:
    """Gives the readings of texts. Holds compiled expressions: keep it."""

    __slots__ = ("_signs",)

    def __init__(self) -> None:
        self._signs = Expressions((number, expression) for number, (_, expression) in enumerate(_SIGNS))

    def views(self, text: str) -> Iterator[View]:
        """The text as it stands first, then what it hides. At least one view; bounded work, O(len(text))."""
        shown = _fold(text)
        marks = shown.encode("utf-8", "replace")
        yield View(_words(marks), marks, "")
        for disguise, hidden in self._hidden(text, shown, marks):
            marks = _fold(hidden).encode("utf-8", "replace")
            yield View(_words(marks), marks, disguise)

    def _hidden(self, text: str, shown: str, marks: bytes) -> Iterator[tuple[str, str]]:
        if not text.isascii():
            yield from _foreign(text, shown)
        signs = {_SIGNS[number][0] for number in self._signs.found(marks)}
        if signs:
            yield from _respelt(shown[:MAX_DECODED], signs)
            yield from _decoded(text, signs)


def _foreign(text: str, shown: str) -> Iterator[tuple[str, str]]:
    if _TURNED.search(text):
        yield "upside-down", text[:MAX_DECODED].translate(_TURN_BACK)[::-1]
    if _INVISIBLE.search(text):
        if _TAGS.search(text):
            yield "tags", _TAGS.sub(_untagged, text[:MAX_DECODED])
        if "\u202e" in text or "\u202d" in text:
            yield "bidi", text[:MAX_DECODED][::-1]
    if _NOT_LATIN.search(shown):
        yield "lookalikes", shown.translate(_LOOKALIKES)


def _respelt(shown: str, signs: set[_Disguise]) -> Iterator[tuple[str, str]]:
    if _Disguise.REVERSED in signs:
        yield "reversed", shown[::-1]
    if _Disguise.ROT13 in signs:
        yield "rot13", codecs.decode(shown, "rot13")
    if _Disguise.SPACED in signs and _SPACED.search(shown):
        yield "spaced", _SPACED.sub(_unspaced, shown)
    if _Disguise.LEET in signs:
        yield "leet", _MIXED.sub(lambda digits: digits[0].translate(_LEET), shown)


def _decoded(text: str, signs: set[_Disguise]) -> Iterator[tuple[str, str]]:
    budget = MAX_DECODED
    decoded: dict[str, list[str]] = {}
    for disguise, blob in _blobs(text, signs):
        if len(blob) > budget:
            continue  # a picture, say; what stands behind it may be an order
        budget -= len(blob)
        raw = _bytes_of(disguise, blob)
        if raw is not None and (readable := _readable(raw)):
            decoded.setdefault(disguise, []).append(readable)
    for disguise, parts in decoded.items():
        yield disguise, " ".join(parts)  # one order may be spread over several blobs
    if _Disguise.PERCENT in signs and (
        readable := _readable(unquote_to_bytes(text[:budget].encode("utf-8", "replace")))
    ):
        yield "percent", readable
    if _Disguise.ENTITIES in signs:
        yield "entities", html.unescape(text[:budget])
    if _Disguise.ESCAPES in signs:
        yield "escapes", _ESCAPES.sub(_unescaped, text[:budget])


def _blobs(text: str, signs: set[_Disguise]) -> Iterator[tuple[str, str]]:
    if _Disguise.HEX in signs:
        yield from (("hex", found[0]) for found in _HEX.finditer(text))
    if _Disguise.BASE64 in signs:
        yield from (("base64", found[0]) for found in _BASE64.finditer(text))


def _bytes_of(disguise: str, blob: str) -> bytes | None:
    try:
        if disguise == "hex":
            return bytes.fromhex(_HEX_NOISE.sub("", blob))
        blob = blob.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(blob + "=" * (-len(blob) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None


def _readable(raw: bytes) -> str | None:
    """The text that `raw` spells, or None when it is not one: identifiers and digests decode to noise."""
    # A neighbour that looks like two more digits must not save the rest.
    text = raw.decode("utf-8", "replace").replace("\ufffd", " ")
    letters = sum(c.isalpha() or c == " " for c in text)
    return text if len(text) >= _SHORTEST and letters >= 0.7 * len(text) else None


def _untagged(found: re.Match[str]) -> str:
    return "".join(chr(ord(c) - 0xE0000) for c in found[0])


def _unescaped(found: re.Match[str]) -> str:
    number = int(found[5], 8) if found[5] else int(found[1] or found[2] or found[3] or found[4], 16)
    return chr(number) if number < 0x110000 else "\ufffd"


def _unspaced(found: re.Match[str]) -> str:
    """`i g n o r e   a l l` -> `ignore all`: a wider gap is a word's end."""
    words = _GAP.split(found[0])
    if max(map(len, words)) == 1:
        return "".join(words)
    return " ".join(re.sub(r"[ \t.\-_*|/]", "", word) for word in words)


def _fold(text: str) -> str:
    """Lower case; beyond ASCII: compatibility forms, accents and invisible characters taken off."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", _INVISIBLE.sub("", text))
    folded = _ACCENTS.sub("", folded).casefold()
    for curly, straight in _QUOTES:
        folded = folded.replace(curly, straight)  # a search for one absent letter each: cheaper than any table
    return folded


def _words(marks: bytes) -> bytes:
    return b" ".join((b"", *marks.translate(_BLANKED).split(), b""))
