"""Every field of the prologue makes another prologue: what it binds cannot be changed unseen."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.mesh import ech_key
from transport.tunnel.prologue import Carrier, Form, Prologue

KEY = ech_key()
BASE = Prologue(KEY.config, (0x0304,), (0x11EC,), True, "billing.internal", 7)


def test_the_bytes_are_those_of_the_specification() -> None:
    assert BASE.encode() == (
        b"mesh-tunnel/1"
        + hashlib.sha256(KEY.config.encode()).digest()
        + b"\x01\x00\x00"
        + b"\x02\x03\x04"
        + b"\x00\x02\x11\xec"
        + b"\x01"
        + b"\x00\x10billing.internal"
        + b"\x06mesh/1"
        + bytes(7)
        + b"\x07"
    )


def test_without_ech_the_service_is_not_in_it() -> None:
    without = replace(BASE, ech=None)

    assert without.encode() == replace(without, service="payroll.internal").encode()
    assert bytes(32) + b"\x00\x00\x00" in without.encode()


@pytest.mark.parametrize(
    "change",
    [
        {"ech": None},
        {"ech": ech_key(KEY).config},
        {"versions": (0x0304, 0x0303)},
        {"groups": (0x11EC, 0x001D)},
        {"min_pq": False},
        {"service": "payroll.internal"},
        {"epoch": 8},
        {"carrier": Carrier.QUIC},
        {"form": Form.APPLICATION},
        {"alpn": b"mesh/2"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_other_view_is_another_prologue(change: dict[str, Any]) -> None:
    assert replace(BASE, **change).encode() != BASE.encode()
