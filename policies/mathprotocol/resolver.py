"""Which plugins can run together, decided from their manifests alone: no code runs before this has said yes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from policies.mathprotocol.codes import V21_TASKS
from policies.mathprotocol.manifest import Manifest, PluginTask, is_met


class ResolutionError(ValueError):
    """The plugins do not fit together; the message names every conflict."""

    def __init__(self, conflicts: list[str]) -> None:
        super().__init__("; ".join(conflicts))
        self.conflicts = tuple(conflicts)


@dataclass(frozen=True, slots=True)
class Resolution:
    """Plugins that fit together."""

    order: tuple[Manifest, ...]
    """Each after everything that it depends on."""
    tasks: Mapping[int, tuple[Manifest, PluginTask]]
    """Prime -> who serves it."""


def resolve(manifests: Sequence[Manifest], traps: frozenset[int]) -> Resolution:
    """The plugins in loading order. Raises ResolutionError."""
    conflicts = [*_name_conflicts(manifests), *_prime_conflicts(manifests, traps), *_dependency_conflicts(manifests)]
    by_name = {manifest.name: manifest for manifest in manifests}
    order: list[Manifest] = []
    if not conflicts:
        conflicts += _sort(by_name, order)
    if conflicts:
        raise ResolutionError(conflicts)
    return Resolution(tuple(order), {task.prime: (plugin, task) for plugin in order for task in plugin.tasks})


def _name_conflicts(manifests: Sequence[Manifest]) -> Iterator[str]:
    names = [manifest.name for manifest in manifests]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"plugin {name} is there {names.count(name)} times"


def _prime_conflicts(manifests: Sequence[Manifest], traps: frozenset[int]) -> Iterator[str]:
    owners: dict[int, str] = {}
    for manifest in manifests:
        for task in manifest.tasks:
            if task.prime in traps:
                # Whoever could register a trap could switch the honeypot off.
                yield f"plugin {manifest.name}: prime {task.prime} is a trap and can never be a task"
            elif task.prime in V21_TASKS:
                yield f"plugin {manifest.name}: prime {task.prime} is a task of the protocol itself"
            elif task.prime in owners:
                yield f"plugins {owners[task.prime]} and {manifest.name} both ask for prime {task.prime}"
            else:
                owners[task.prime] = manifest.name


def _dependency_conflicts(manifests: Sequence[Manifest]) -> Iterator[str]:
    by_name = {manifest.name: manifest for manifest in manifests}
    for manifest in manifests:
        for name, requirement in sorted(manifest.dependencies.items()):
            found = by_name.get(name)
            if found is None:
                yield f"plugin {manifest.name} needs {name} {requirement}, which is not there"
            elif not is_met(requirement, found.version):
                version = ".".join(map(str, found.version))
                yield f"plugin {manifest.name} needs {name} {requirement}, but {version} is there"


def _sort(by_name: Mapping[str, Manifest], order: list[Manifest]) -> list[str]:
    """Append to `order`, dependencies first; what is left over depends on itself."""
    waiting = dict(sorted(by_name.items()))
    while waiting:
        ready = [m for m in waiting.values() if not set(m.dependencies) & waiting.keys()]
        if not ready:
            return [f"plugins {', '.join(waiting)} depend on each other in a circle"]
        order += ready
        for manifest in ready:
            del waiting[manifest.name]
    return []
