"""Keys, passwords and tokens that must not reach a model."""

import re
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import Candidate, Rank, Recognizer, cased, phrases, trie

_PREFIX: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-|gh[pousr]_|github_pat_|glpat-|AKIA|ASIA|xox[abeprs]-|AIza|ya29\.|hf_|npm_|pypi-|SG\.|"
    r"[rsp]k_(?:live|test)_|whsec_|dop_v1_|shpat_|eyJ)"
)
_PREFIXED: Final = re.compile(
    r"sk-[A-Za-z0-9_-]{16,200}|gh[pousr]_[A-Za-z0-9]{30,80}|github_pat_[A-Za-z0-9_]{22,100}|glpat-[A-Za-z0-9_-]{18,60}|"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abeprs]-[A-Za-z0-9-]{10,200}|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,400}|"
    r"(?:hf|npm)_[A-Za-z0-9]{30,60}|pypi-[A-Za-z0-9_-]{40,250}|SG\.[A-Za-z0-9_-]{16,40}\.[A-Za-z0-9_-]{16,80}|"
    r"[rsp]k_(?:live|test)_[A-Za-z0-9]{16,120}|whsec_[A-Za-z0-9+/=]{20,80}|dop_v1_[0-9a-f]{40,80}|shpat_[0-9a-fA-F]{32}|"
    r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)?"
)
"""Keys by the prefixes that OpenAI, Anthropic, GitHub, GitLab, AWS, Slack, Google, Hugging Face, npm, PyPI, SendGrid,
Stripe, DigitalOcean and Shopify gave them, and JSON web tokens (RFC 7519)."""
_PREFIX_TRIGGERS: Final = (
    r"\b(?:sk-|gh[pousr]_|hf_|npm_|pypi-|SG\.|[rsp]k_(?:live|test)_|eyJ)[A-Za-z0-9]{4}",
    r"\b(?:AKIA|ASIA|AIza)[A-Z0-9]{4}",
    r"\b(?:github_pat_|glpat-|xox[abeprs]-|ya29\.|whsec_|dop_v1_|shpat_)",
)


def _prefixed(text: str, end: int, found: list[Candidate]) -> None:
    prefix = _PREFIX.search(text, max(0, end - 12), end)
    match = _PREFIXED.match(text, prefix.start()) if prefix else None
    if match:
        found.append((*match.span(), Rank.ENCLOSING, Label.SECRET))


_KEY_BLOCK: Final = re.compile(
    # RFC 7468. No five hyphens within: a flood of beginnings is read once.
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[\w+/=\s:,.\\]|-(?!----))*+"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
)


def _key_block(text: str, end: int, found: list[Candidate]) -> None:
    start = text.rfind("-----BEGIN", max(0, end - 70), end)
    match = _KEY_BLOCK.match(text, start) if start >= 0 else None
    if match:
        found.append((*match.span(), Rank.ENCLOSING, Label.SECRET))


_NO_SECRETS: Final = phrases("""
    not | the | a | an | required | incorrect | wrong | invalid | your | null | none | true | false | string | str | os |
    env | process | self | getenv | input | secret | password
""")
"""What stands behind `password:` in documentation and code."""
_ASSIGNED: Final = re.compile(
    r"(?:[\"'`]?\s{0,3}(?::|=>|=|\bis\b|\bwas\b)\s{0,3}[\"'`]?)"
    rf"(?P<v>(?!(?:{trie(cased(_NO_SECRETS))}|xxx+|\*+|<|\$\{{?|\{{)(?![A-Za-z0-9]))"
    # With a digit or a sign, or long: a plain word is hardly a password.
    r"(?=[^\s\"'`]{0,200}?[^A-Za-z\s\"'`]|[^\s\"'`]{16})[^\s\0\"'`,;)}\]]{6,200})"
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


RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer("secret-prefix", _prefixed, _PREFIX_TRIGGERS),
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
