"""Go's crypto/tls: client and server with ECH, the most complete independent peer (gopeer/main.go)."""

import json
import subprocess
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.transport.interop.lab import PEERS, SECRET, Chain, Lab, first_key
from tests.transport.interop.scenarios import Ech, Outcome, Running, Scenario, Seen, cells
from transport.ech.hpke import PrivateKey

BINARY: Final = PEERS / "go-bin/gopeer"


class GoClient:
    name = "go"
    cells = cells("grease", "grease+hrr")  # crypto/tls sends no GREASE ECH
    checks_inner_name = False
    recovers = False
    tells_retry = True

    def fetch(self, lab: Lab, scenario: Scenario, port: int) -> Outcome:
        lists = {Ech.NONE: b"", Ech.REAL: lab.config_list, Ech.STALE: lab.stale_list}
        job = {
            "role": "client",
            "address": f"127.0.0.1:{port}",
            "name": SECRET,
            "authorities": lab.root_pem,
            "groups": scenario.client_groups,
            "alpn": ["mesh/1"] if scenario.ech is Ech.REAL else [],
            "config_list": b64encode(lists[scenario.ech]).decode() or None,
        }
        run = subprocess.run([_binary()], input=json.dumps(job), capture_output=True, text=True, timeout=30)
        said = json.loads(run.stdout)
        return Outcome(
            succeeded="error" not in said,
            accepted=said["accepted"],
            retry_key=first_key(b64decode(said["retry_configs"] or "")),
            exported=b64decode(said["exported"] or "") or None,
            text=run.stdout + run.stderr,
        )


class GoServer:
    name = "go"
    cells = cells()

    @contextmanager
    def serve(self, lab: Lab, scenario: Scenario, chains: Sequence[Chain]) -> Iterator[Running]:
        job = {
            "role": "server",
            "chains": [chain.pem for chain in chains],
            "groups": scenario.server_groups,
            "alpn": ["mesh/1", "http/1.1"],
            "keys": [
                {
                    "config": b64encode(lab.key.config.encode()).decode(),
                    "private_key": b64encode(_raw(lab.key.private_key)).decode(),
                    "retry": True,
                }
            ],
        }
        process = subprocess.Popen([_binary()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        running = Running(json.loads(process.stdout.readline())["port"], seen=[])
        listening = threading.Thread(target=_listen, args=(process.stdout, running.seen))
        listening.start()
        try:
            yield running
        finally:
            process.kill()
            process.wait(10)
            listening.join(10)
            process.stdout.close()


def _listen(lines: Iterable[str], seen: list[Seen]) -> None:
    for line in lines:
        said = json.loads(line)
        if "error" not in said:
            seen.append(Seen(said["accepted"], said["name"], b64decode(said["exported"])))


def _raw(key: PrivateKey) -> bytes:
    """RFC 9180 section 7.1.2, SerializePrivateKey."""
    if isinstance(key, X25519PrivateKey):
        return key.private_bytes_raw()
    return key.private_numbers().private_value.to_bytes(32)


def _binary() -> str:
    if not BINARY.exists():
        pytest.skip("the Go peer is not built: .ci/install-tls-peers")
    return str(BINARY)
