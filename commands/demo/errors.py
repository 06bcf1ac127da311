"""Why the demo cannot show what it promises.

DemoError           shown to the user as it is
├── UnansweredError     an SDK raised: the application would not have got its answer
└── UnprovenError       the exchange is not on record, or its proof does not hold
"""


class DemoError(Exception):
    """The product did not do its part."""


class UnansweredError(DemoError):
    """The SDK's own error is the cause."""


class UnprovenError(DemoError):
    """An auditor would reject it."""
