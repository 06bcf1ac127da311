"""Counters, gauges and histograms that cost a dictionary look-up, and their snapshot for exposition or merging.

`prometheus_client`'s own instruments cost 1.4-1.8 µs a call for label handling and locks; these cost 0.1-0.3. The
price: each series is written by one thread only (its *owner*; the instrument says who). Reading is safe from any
thread, because copying a dictionary is one step under the interpreter lock; a reader may see a histogram whose sum is
one observation behind its buckets.

Hot code takes a series once (`cell`, `series`) and adds to the list it gets.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from observability.names import FAMILIES, OTHER, Family, Kind

Labels = tuple[str, ...]
"""Values in the order of `Family.labels`."""
Watched = Callable[[], Mapping[Labels, float]]
MAX_SERIES: Final = 4096
"""Series of one family. Beyond it every label value becomes `other`: a client must not be able to fill our memory."""


class Counter:
    """Only grows."""

    __slots__ = ("_cells", "_watched", "family")

    def __init__(self, family: Family) -> None:
        self.family = family
        self._cells: dict[Labels, list[float]] = {}
        self._watched: list[Watched] = []

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """Count `amount` more."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self.cell(labels)
        cell[0] += amount

    def cell(self, labels: Labels = ()) -> list[float]:
        """The one-element list that holds the count of this series."""
        return _open(self._cells, labels, lambda: [0])

    def watch(self, read: Watched) -> None:
        """Ask `read` whenever somebody looks. It runs on the reader's thread and must not block."""
        self._watched.append(read)

    def values(self) -> dict[Labels, float]:
        """The counts at this moment."""
        return _numbers(self._cells, self._watched)


class Gauge:
    """Goes up and down; set, or read from a function when somebody looks."""

    __slots__ = ("_cells", "_watched", "family")

    def __init__(self, family: Family) -> None:
        self.family = family
        self._cells: dict[Labels, list[float]] = {}
        self._watched: list[Watched] = []

    def set(self, value: float, labels: Labels = ()) -> None:
        """It is `value` from now on."""
        self.cell(labels)[0] = value

    def add(self, amount: float, labels: Labels = ()) -> None:
        """It is `amount` more."""
        self.cell(labels)[0] += amount

    def replace(self, values: Mapping[Labels, float]) -> None:
        """These are all series from now on."""
        self._cells = {}
        for labels, value in values.items():
            self.set(value, labels)

    def cell(self, labels: Labels = ()) -> list[float]:
        """The one-element list that holds this series."""
        return _open(self._cells, labels, lambda: [0])

    def watch(self, read: Watched) -> None:
        """Ask `read` whenever somebody looks. It runs on the reader's thread and must not block."""
        self._watched.append(read)

    def values(self) -> dict[Labels, float]:
        """The values at this moment."""
        return _numbers(self._cells, self._watched)


class Histogram:
    """Counts observations by size. A series is a list: one count for each bucket, infinity last, then the sum."""

    __slots__ = ("_series", "boundaries", "family")

    def __init__(self, family: Family) -> None:
        self.family = family
        self.boundaries = family.boundaries
        self._series: dict[Labels, list[float]] = {}

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Count one observation."""
        series = self.series(labels)
        series[bisect_left(self.boundaries, value)] += 1
        series[-1] += value

    def series(self, labels: Labels = ()) -> list[float]:
        """The list that holds this series; owners add to it as `observe` does."""
        return _open(self._series, labels, lambda: [0] * (len(self.boundaries) + 2))

    def drop(self, unwanted: Callable[[Labels], bool]) -> None:
        """Forget series. Prometheus takes a later return for a restart of the counter."""
        for labels in [labels for labels in self._series if unwanted(labels)]:
            del self._series[labels]

    def mirror(self, other: "Histogram") -> None:
        """Show what `other` shows, at no cost: one observation under two names with the same boundaries."""
        if other.boundaries != self.boundaries:
            raise ValueError(f"{self.family.name} has other boundaries than {other.family.name}")
        self._series = other._series

    def values(self) -> dict[Labels, list[float]]:
        """The series at this moment."""
        return {labels: series.copy() for labels, series in self._series.copy().items()}


class Snapshot(msgspec.Struct, frozen=True):
    """All values of one process at one moment, keyed by family name."""

    numbers: dict[str, list[tuple[Labels, float]]]
    histograms: dict[str, list[tuple[Labels, list[float]]]]


class Registry:
    """All instruments of one process. Asking twice for a family gives the same instrument."""

    def __init__(self, families: Iterable[Family] = FAMILIES) -> None:
        self._counters = {f: Counter(f) for f in families if f.kind is Kind.COUNTER}
        self._gauges = {f: Gauge(f) for f in families if f.kind is Kind.GAUGE}
        self._histograms = {f: Histogram(f) for f in families if f.kind is Kind.HISTOGRAM}

    def counter(self, family: Family) -> Counter:
        """The counter of this family. One without labels shows 0 from now on, as Prometheus advises."""
        counter = self._counters[family]
        if not family.labels:
            counter.cell()
        return counter

    def gauge(self, family: Family) -> Gauge:
        """The gauge of this family."""
        return self._gauges[family]

    def histogram(self, family: Family) -> Histogram:
        """The histogram of this family."""
        return self._histograms[family]

    def snapshot(self) -> bytes:
        """Everything at this moment, for `exposition.render`, here or in another process."""
        numbers: dict[str, list[tuple[Labels, float]]] = {}
        instruments: list[Counter | Gauge] = [*self._counters.values(), *self._gauges.values()]
        for number in instruments:
            if values := number.values():
                numbers[number.family.name] = list(values.items())
        histograms = {h.family.name: list(h.values().items()) for h in self._histograms.values() if h.values()}
        return msgspec.msgpack.encode(Snapshot(numbers, histograms))


def _numbers(cells: dict[Labels, list[float]], watched: list[Watched]) -> dict[Labels, float]:
    values = {labels: cell[0] for labels, cell in cells.copy().items()}
    for read in watched:
        values.update(read())
    return values


def _open(table: dict[Labels, list[float]], labels: Labels, new: Callable[[], list[float]]) -> list[float]:
    series = table.get(labels)
    if series is not None:
        return series
    if len(table) >= MAX_SERIES:
        labels = (OTHER,) * len(labels)
    return table.setdefault(labels, new())
