"""Errors of the policy room.

PolicyError
├── SpecError           a policy document is wrong; carries every finding with file and line
└── CapExceededError         a bound that fails closed was passed (text, spans, depth)
"""


class PolicyError(Exception):
    """Root of this package's errors. Messages never hold prompt text."""


class CapExceededError(PolicyError):
    """A bound was passed and the text was not fully inspected: the exchange must be refused."""
