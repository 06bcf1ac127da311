"""Making the next revision out of the newest one, beside others who do the same."""

from collections.abc import Callable
from typing import Final, TypeVar

from controlplane.store.store import ConflictError, Origin, PolicyStore, Resources

ATTEMPTS: Final = 5
"""How often somebody else may be faster, one time after the other, until whoever asked is told."""
_Made = TypeVar("_Made")


def revise(
    store: PolicyStore,
    make: Callable[[int], tuple[Resources, _Made]],
    origin: Origin,
    *,
    expected: int | None = None,
) -> tuple[int, _Made]:
    """The number of the revision made, or of the newest if nothing differs, and what `make` says of it.

    `make` is given the number of the newest revision and is asked again when somebody else made one meanwhile, so it
    must do nothing but look. `expected`: the newest must be this one. Raises ConflictError, StoreError and what `make`
    raises.
    """
    for attempt in range(ATTEMPTS):
        base = store.newest()
        if expected is not None and base != expected:
            raise ConflictError(base)
        resources, made = make(base)
        try:
            return store.commit(resources, origin, base=base).number, made
        except ConflictError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
