"""Web and network addresses."""

import re
from ipaddress import IPv6Address
from string import hexdigits
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import (
    Candidate,
    Rank,
    Recognizer,
    from_digit,
    is_version,
    touching,
    word_start,
)

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,15}\Z")
_REST: Final = re.compile(r"[^\s\0<>\"'`|\\^{}“”‘’«»。，、；：！？（）「」【】]{1,4096}")
_TOP_LEVEL: Final = (
    "com|org|net|edu|gov|mil|int|info|biz|io|co|me|us|uk|ca|au|nz|ie|de|at|ch|fr|be|nl|es|pt|it|gr|pl|cz|sk|hu|ro|bg|dk|se|no|fi|"
    "ee|lv|lt|ua|ru|tr|il|ae|sa|in|pk|cn|hk|tw|jp|kr|sg|my|th|vn|id|ph|br|mx|ar|cl|pe|za|ng|ke|eg|eu|app|dev|health|care|clinic|"
    "hospital|online|site|shop|xyz|cloud|ai|tv|link|page|life|doctor"
)
_HOST: Final = re.compile(
    rf"(?<![\w@./-])(?:[A-Za-z0-9](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?\.){{1,6}}(?:{_TOP_LEVEL})/", re.IGNORECASE
)


def _url_end(text: str, start: int) -> int:
    """Where the address ends that begins at `start`: at a delimiter, without the punctuation of the sentence."""
    match = _REST.match(text, start)
    if match is None:
        return start
    rest = match.group()
    surplus = {closer: rest.count(closer) - rest.count(opener) for opener, closer in ("()", "[]")}
    end = len(rest)
    while end > 0 and (rest[end - 1] in ".,;:!?*_~" or surplus.get(rest[end - 1], 0) > 0):
        end -= 1
        if rest[end] in surplus:
            surplus[rest[end]] -= 1
    return start + end


def _url(text: str, end: int, found: list[Candidate]) -> None:
    scheme = _SCHEME.search(text, max(0, end - 19), end - 3)
    stop = _url_end(text, end) if scheme else end
    if scheme and stop > end:
        found.append((scheme.start(), stop, Rank.ENCLOSING, Label.URL))


def _www(text: str, end: int, found: list[Candidate]) -> None:
    stop = _url_end(text, end)
    if "." in text[end:stop]:
        found.append((end - 4, stop, Rank.ENCLOSING, Label.URL))


def _host_and_path(text: str, end: int, found: list[Candidate]) -> None:
    match = _HOST.search(text, max(0, end - 80), end)
    if match:
        found.append((match.start(), _url_end(text, end), Rank.ENCLOSING, Label.URL))


_BYTE: Final = r"(?:25[0-5]|2[0-4]\d|[01]?\d?\d)"
_V4: Final = re.compile(
    rf"(?<![\w.-])({_BYTE})\.{_BYTE}\.{_BYTE}\.{_BYTE}(?::\d{{1,5}}|/\d{{1,2}})?(?![\w-])(?!\.\d)", re.ASCII
)


def _v4(text: str, end: int, found: list[Candidate]) -> None:
    start = text.rfind(" ", max(0, end - 16), end) + 1
    match = _V4.match(text, start, end + 12)
    if match is None or match.end() < end:
        match = from_digit(_V4, text, end, 15, 12)
    if match is None:
        return
    first = int(match[1])
    # Not "this network", loopback, multicast and masks: they are nobody's.
    if first in {0, 127} or first > 223:
        return
    if not is_version(text, match.start()):
        found.append((*match.span(), Rank.CHECKED, Label.IP_ADDRESS))


_V6: Final = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?:%\w{1,15})?(?:/\d{1,3})?(?![\w:])",
    re.ASCII,
)
_HEX_LETTERS_ONLY: Final = re.compile(r"[A-Fa-f:]+")


_OF_V6: Final = hexdigits + ":"


def _v6(text: str, end: int, found: list[Candidate]) -> None:
    if end > 41 and not text[end - 41 : end].strip(_OF_V6):
        return  # too long for an address
    match = touching(_V6, text, end, end - word_start(text, end, 41), 48)
    if match is None:
        return
    address = match.group().split("%")[0].split("/")[0]
    if _is_host(address) and not _HEX_LETTERS_ONLY.fullmatch(address):
        found.append((*match.span(), Rank.CHECKED, Label.IP_ADDRESS))


def _is_host(address: str) -> bool:
    """Whether this address can stand for one machine of somebody: it is valid, and neither loopback, nor unspecified,
    nor multicast (RFC 4291 section 2.4)."""
    if address in _NOBODYS:
        return False
    try:
        number = int(IPv6Address(address))
    except ValueError:
        return False
    return number > 1 and number >> 120 != 0xFF


_NOBODYS: Final = frozenset({"::", "::1"})
"""Common ones, which are not worth being parsed."""


_MAC: Final = re.compile(r"(?<![\w:.-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])", re.ASCII)


def _mac(text: str, end: int, found: list[Candidate]) -> None:
    match = _MAC.match(text, end - 17)
    if match:
        found.append((*match.span(), Rank.CHECKED, Label.DEVICE_SERIAL))


RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer("url", _url, (r"[A-Za-z0-9]://",)),
    Recognizer("url-www", _www, (r"[^\w./@]www\.",), caseless=True),
    Recognizer("url-path", _host_and_path, tuple(rf"\.{name}/" for name in _TOP_LEVEL.split("|")), caseless=True),
    Recognizer("ip-v4", _v4, (r"[^0-9.]\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b",), digits=True),
    Recognizer(
        "ip-v6",
        _v6,
        (r"[0-9a-f]::", r"[^0-9A-Za-z:]::[0-9a-f]", r":[0-9a-f]{1,4}:[0-9a-f]{1,4}:[0-9a-f]{1,4}:"),
        caseless=True,
    ),
    Recognizer("mac", _mac, (r"[^0-9A-Za-z:-](?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}",), caseless=True),
)
