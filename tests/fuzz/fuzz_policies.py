"""Invariants: a policy file of any bytes gives documents or `SpecError`, and documents are written and distributed
without loss; a distributed resource of any bytes gives a document, keys or our errors; a last known good of any bytes
gives only ours.

    python -m tests.fuzz.fuzz_policies -max_total_time=60
"""

import hashlib
import sys
from dataclasses import replace

import atheris

with atheris.instrument_imports(include=["policies", "sidecar"]):
    from policies import spec_load, wire
    from policies.errors import ConfigError, SpecError, WireError
    from policies.spec import Document, Kind, Source
    from sidecar import tunnel_keys
    from sidecar.policy_state import PolicyState

from aegispb.v1 import discovery_pb2, lkg_pb2
from google.protobuf.message import DecodeError

from policies.model import UnixNanos

URLS = tuple(wire.KINDS)


def kept_in_full(document: Document) -> None:
    sent = wire.resource(document)
    assert wire.read(wire.TYPE_URLS[document.kind], sent) == document
    in_force = {key: document for _, key in document.references()}
    assert spec_load.load([Source("again", spec_load.render(document))], in_force) == [document]


def as_file(data: bytes) -> None:
    try:
        documents = spec_load.load([Source("fuzz", data.decode("utf-8", "replace"))])
    except SpecError:
        return
    for document in documents:
        kept_in_full(document)


def as_resource(url: str, body: bytes) -> None:
    digest = hashlib.sha256(body)
    sent = discovery_pb2.Resource(name="x", body=body, sha256=digest.digest(), version=digest.hexdigest()[:16])
    try:
        document = wire.read(url, sent)
    except (WireError, ConfigError):
        return
    # There is one TunnelPolicy, and files know it by its name.
    kept_in_full(replace(document, name="mesh") if document.kind is Kind.TUNNEL else document)


def as_keys(url: str, body: bytes) -> None:
    name = "tunnel/spiffe://x/y" if url in wire.PERSONAL else "spiffe://x/y"
    sent = wire.resource_of(name, body)
    try:
        read = tunnel_keys.read(url, sent, {})
    except WireError:
        return
    tunnel_keys.view({(url, name): read}, ())


def as_last_known_good(data: bytes) -> None:
    try:
        kept = lkg_pb2.LastKnownGood.FromString(data)
    except DecodeError:
        return
    state = PolicyState(bytes(32))
    state.restore(kept, UnixNanos(0))
    state.snapshot("lkg")
    state.tunnels()


def test_one_input(data: bytes) -> None:
    if not data:
        return
    choice, rest = data[0] % (len(URLS) + len(wire.KEY_TYPES) + 2), data[1:]
    if choice == 0:
        as_last_known_good(rest)
    elif choice == 1:
        as_file(rest)
    elif choice < len(URLS) + 2:
        as_resource(URLS[choice - 2], rest)
    else:
        as_keys(wire.KEY_TYPES[choice - 2 - len(URLS)], rest)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
