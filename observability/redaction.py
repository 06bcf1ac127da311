"""The last line of defence against secrets in what we emit. Pure.

Nothing that reaches a log line is supposed to hold a key or a token; this catches what does so by mistake. It knows the
shapes of keys, not of prompts: it does not make it safe to log text.
"""

import re
from typing import Final

REDACTED: Final = "[redacted]"

_SHAPES: Final = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}",
    r"(?i:\b(?:x-)?(?:api[-_ ]?key|authorization|cookie|password|secret|token))\b[\"']?\s*[:=]\s*[\"']?[^\s\"',;&]+",
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{6,}",  # OpenAI, Anthropic, Stripe-like
    r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){0,4}",  # JWT, JWE
    r"\bAIza[A-Za-z0-9_-]{20,}",  # Google
    r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}",  # AWS
    r"\b(?:gh[pousr]|github_pat|glpat|hf|xox[abprs])[_-][A-Za-z0-9_-]{10,}",
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",  # user:password in a URL
    r"\[[A-Z][A-Z0-9-]{1,40}-[0-9A-HJKMNP-TV-Z]{6}\]",  # a token of the airlock
)
_SECRET: Final = re.compile("|".join(f"(?:{shape})" for shape in _SHAPES), re.DOTALL)


def scrub(text: str) -> str:
    """`text` with everything replaced that has the shape of a key, a credential or an airlock token."""
    return _SECRET.sub(REDACTED, text)
