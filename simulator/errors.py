"""How a simulated request ends badly.

RefusedError      answered with an error status in the provider's shape
BrokenOffError    the model dies in the middle of its answer, as it was told to
"""


class RefusedError(Exception):
    """The request is not one that this model answers."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class BrokenOffError(Exception):
    """The simulated model dies here."""
