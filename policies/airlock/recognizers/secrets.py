"""Keys, passwords and tokens that must not reach a model."""

import re
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import Candidate, Rank, Recognizer, phrases, touching

_PREFIXED: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-(?:ant-|proj-|or-|live-)?[A-Za-z0-9_-]{16,200}|gh[pousr]_[A-Za-z0-9]{30,80}|github_pat_\w{22,100}|glpat-[\w-]{18,60}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,200}|AIza[\w-]{35}|ya29\.[\w-]{20,400}|hf_[A-Za-z0-9]{30,60}|npm_[A-Za-z0-9]{30,60}|pypi-[\w-]{40,250}|SG\.[\w-]{16,40}\.[\w-]{16,80}"
    r"|[rsp]k_(?:live|test)_[A-Za-z0-9]{16,120}|whsec_[A-Za-z0-9+/=]{20,80}|dop_v1_[0-9a-f]{40,80}|shpat_[0-9a-fA-F]{32}|eyJ[\w-]{8,2000}\.[\w-]{8,4000}(?:\.[\w-]{0,2000})?)"
)
_PREFIX_TRIGGER: Final = (
    r"\b(?:sk-[A-Za-z0-9]|gh[pousr]_[A-Za-z0-9]|github_pat_|glpat-|AKIA[A-Z0-9]{4}|ASIA[A-Z0-9]{4}|xox[abeprs]-|AIza[\w-]|ya29\.|hf_[A-Za-z0-9]{8}|npm_[A-Za-z0-9]{8}|pypi-[\w-]{8}|SG\.[\w-]{8}"
    r"|[rsp]k_(?:live|test)_|whsec_|dop_v1_|shpat_|eyJ[\w-]{8})"
)


def _prefixed(text: str, end: int, found: list[Candidate]) -> None:
    match = touching(_PREFIXED, text, end, 13, 7000)
    if match:
        found.append((*match.span(), Rank.ENCLOSING, Label.SECRET))


_KEY_BLOCK: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\w+/=\s:,.\\-]{0,20000}?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\w+/=\s:,.\\]{0,20000}"
)


def _key_block(text: str, end: int, found: list[Candidate]) -> None:
    start = text.rfind("-----BEGIN", max(0, end - 70), end)
    match = _KEY_BLOCK.match(text, start) if start >= 0 else None
    if match:
        found.append((*match.span(), Rank.ENCLOSING, Label.SECRET))


_ASSIGNED: Final = re.compile(
    r"(?:[\"'`]?\s{0,3}(?::|=>|=|\bis\b|\bwas\b)\s{0,3}[\"'`]?)(?P<v>(?!(?:not|the|a|an|required|incorrect|wrong|invalid|your|null|none|true|false|string|str|os|env|process|self|getenv|input|secret|password|xxx+|\*+|<|\$\{?|\{)(?![A-Za-z0-9]))(?=[^\s\"'`]*[^A-Za-z\s\"'`]|[^\s\"'`]{16,})[^\s\0\"'`,;)}\]]{6,200})",
    re.IGNORECASE,
)
_CODE_VALUE: Final = re.compile(r"[A-Za-z_][\w.]*[(\[].*|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def _assigned(text: str, end: int, found: list[Candidate]) -> None:
    match = _ASSIGNED.match(text, end)
    if match and not _CODE_VALUE.fullmatch(match["v"]):
        found.append((match.start("v"), match.start("v") + len(match["v"].rstrip(".")), Rank.KEYED, Label.SECRET))


_BEARER: Final = re.compile(r"[ :]{1,3}(?P<v>[A-Za-z0-9._~+/-]{20,2000}={0,2})(?![A-Za-z0-9])")


def _bearer(text: str, end: int, found: list[Candidate]) -> None:
    match = _BEARER.match(text, end - 1)
    if match and any(char.isdigit() for char in match["v"]):
        found.append((*match.span("v"), Rank.KEYED, Label.SECRET))


RECOGNIZERS: Final = (
    Recognizer("secret-prefix", _prefixed, (_PREFIX_TRIGGER,)),
    Recognizer("secret-key-block", _key_block, (r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY",)),
    Recognizer(
        "secret-assigned",
        _assigned,
        words=phrases("""
            password | passwd | passphrase | pwd | api key | secret key | client secret | access key | secret | access
            token | auth token | contraseña | passwort | kennwort | mot de passe | senha | wachtwoord | hasło | пароль |
            密码 | パスワード | 비밀번호
        """),
    ),
    Recognizer("secret-bearer", _bearer, ("Bearer[ :]", "Basic ")),
)
