"""What a sidecar says of its tunnels: shares, rates, times and ages, from its counters and its view of keys and peers.

Numbers are since the start of the process. Nothing private: keys by id and fingerprint, peers by the names of their
documents.
"""

from collections.abc import Mapping
from typing import Any, Final

from observability import names
from observability.metrics import Labels, Registry
from sidecar.tunnel_keys import TunnelView
from transport.decisions import Reason, TunnelMode
from transport.peers import fingerprint

_STOOD: Final = (TunnelMode.ECH.value, TunnelMode.NO_ECH.value)
"""Outcomes of handshakes that made a tunnel."""
_FALLBACKS: Final = frozenset((Reason.SECURELY_DISABLED.value, Reason.CONFIG_UNUSABLE.value, Reason.NO_CONFIG.value))
"""Reasons of the mode NO_ECH that follow an attempt with ECH, or the wish for one; the others were decided before."""


def describe(registry: Registry, view: TunnelView, now: float) -> dict[str, Any]:
    """The page. `now`: seconds since 1970."""
    handshakes = _by_first(registry.counter(names.TUNNEL_HANDSHAKES).values())
    decisions = registry.counter(names.TUNNEL_DECISIONS).values()
    return {
        "mode_share": _shares({mode: handshakes.get("dialler", {}).get(mode, 0.0) for mode in _STOOD}),
        "success_rate": {role: _rate(_stood(counts), sum(counts.values())) for role, counts in handshakes.items()},
        "fallback_rate": _fallback_rate(decisions),
        "decisions": {"/".join(labels): round(count) for labels, count in sorted(decisions.items())},
        "handshakes": {role: _counts(counts) for role, counts in handshakes.items()},
        "handshake_seconds": {
            "/".join(labels): _times(series, names.TUNNEL_HANDSHAKE_SECONDS.boundaries)
            for labels, series in registry.histogram(names.TUNNEL_HANDSHAKE_SECONDS).values().items()
        },
        "open": {
            "/".join(labels): round(count) for labels, count in registry.gauge(names.TUNNELS_OPEN).values().items()
        },
        "events": {
            labels[0]: round(count)
            for labels, count in registry.counter(names.ALERTS).values().items()
            if labels[0].startswith("tunnel.")
        },
        "keys": _keys(view, now),
        "peers": {name: _peer(view, name) for name in sorted(view.directory.peers)},
    }


def _keys(view: TunnelView, now: float) -> dict[str, Any]:
    keys = view.keys
    ring = keys.ech.keys if keys is not None and keys.ech is not None else ()
    return {
        "workload": keys.spiffe_id if keys is not None else None,
        "static": fingerprint(keys.static.public) if keys is not None else None,
        "other_static": fingerprint(keys.other_static.public) if keys is not None and keys.other_static else None,
        "ech_age_seconds": round(now - view.ech_since, 1) if view.ech_since else None,
        "ech_held": [
            {"config_id": key.config_id, "state": key.state.value, "seconds_in_state": round(now - key.since, 1)}
            for key in ring
        ],
        "known_workloads": len(view.directory.statics),
        "revoked": len(view.directory.revoked),
    }


def _peer(view: TunnelView, name: str) -> dict[str, Any]:
    peer = view.directory.peers[name]
    return {
        "mode": peer.mode.value,
        "min_pq": peer.min_pq,
        "endpoints": len(peer.endpoints),
        "key_known": bool(view.directory.responder_statics(peer)),
        "served_here": peer in view.served,
    }


def _fallback_rate(decisions: Mapping[Labels, float]) -> float | None:
    """Of all tunnels that were to have ECH, how many went without after all; None: there were none."""
    fallen = sum(n for (mode, reason), n in decisions.items() if mode == TunnelMode.NO_ECH and reason in _FALLBACKS)
    wanted = (Reason.REQUIRED.value, Reason.ROLLED_OUT.value)
    hidden = sum(n for (mode, reason), n in decisions.items() if mode == TunnelMode.ECH and reason in wanted)
    return _rate(fallen, hidden)


def _by_first(values: Mapping[Labels, float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (first, second), count in sorted(values.items()):
        found.setdefault(first, {})[second] = count
    return found


def _stood(outcomes: Mapping[str, float]) -> float:
    return sum(outcomes.get(mode, 0.0) for mode in _STOOD)


def _shares(counts: Mapping[str, float]) -> dict[str, float | None]:
    total = sum(counts.values())
    return {name: _rate(count, total) for name, count in counts.items()}


def _rate(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _counts(counts: Mapping[str, float]) -> dict[str, int]:
    return {name: round(count) for name, count in counts.items()}


def _times(series: list[float], boundaries: tuple[float, ...]) -> dict[str, float | None]:
    """`p50` and `p95` are upper bounds of the bucket that the quantile falls into; None: beyond the last bound."""
    buckets, total = series[:-1], series[-1]
    count = sum(buckets)

    def below(share: float) -> float | None:
        seen = 0.0
        for bound, observed in zip((*boundaries, None), buckets, strict=True):
            seen += observed
            if seen >= share * count:
                return bound
        return None

    return {"count": count, "mean": round(total / count, 6) if count else None, "p50": below(0.5), "p95": below(0.95)}
