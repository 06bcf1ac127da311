"""NSS by its own tools: tstclnt and selfserv of Debian's libnss3-tools."""

import re
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.fakes.ports import reserved_ports
from tests.transport.interop.lab import SECRET, Chain, Lab, first_key, program, wait_until_listening
from tests.transport.interop.scenarios import P256, P384, X25519, Ech, Outcome, Running, Scenario, cells

GROUPS: Final = {X25519: "x25519", P256: "P256", P384: "P384"}
PKCS8_HEAD: Final = bytes.fromhex("3067020100301406072a8648ce3d020106092b06010401da470f01044c304a0201010420")
"""NSS 3.87 has an object identifier of its own for Curve25519."""
PASSWORD: Final = "interop"


class NssClient:
    name = "nss"
    cells = cells("ech+pq", "stale+hrr")  # no ML-KEM in 3.87; HRR with a rejection fails even with itself
    checks_inner_name = True
    recovers = False
    tells_retry = True

    def fetch(self, lab: Lab, scenario: Scenario, port: int) -> Outcome:
        client, database = program("tstclnt"), _database(lab)
        request = lab.folder / "request"
        request.write_text(f"GET / HTTP/1.0\r\nHost: {SECRET}\r\n\r\n")
        match scenario.ech:
            case Ech.REAL:
                ech = ["-N", b64encode(lab.config_list).decode()]
            case Ech.STALE:
                ech = ["-N", b64encode(lab.stale_list).decode()]
            case Ech.GREASE:
                ech = ["-i", "64"]
            case Ech.NONE:
                ech = []
        groups = ",".join(GROUPS[group] for group in scenario.client_groups)
        where = ["-h", "127.0.0.1", "-p", str(port), "-a", SECRET, "-d", f"sql:{database}"]
        run = subprocess.run(
            [client, *where, "-V", "tls1.3:tls1.3", "-I", groups, *ech, "-Q", "-A", request],
            capture_output=True,
            timeout=30,
            check=False,
        )
        text = (run.stdout + run.stderr).decode(errors="replace")
        retry = re.search(r"retry[^:]*:\s*([A-Za-z0-9+/=\s]{40,})", text, re.IGNORECASE)
        return Outcome(
            succeeded=run.returncode == 0,
            retry_key=first_key(b64decode("".join(retry[1].split()))) if retry else None,
            text=f"exit {run.returncode}\n{text}",
        )


class NssServer:
    name = "nss"
    cells = cells("ech+pq", "stale+hrr", "grease+hrr")

    @contextmanager
    def serve(self, lab: Lab, scenario: Scenario, chains: Sequence[Chain]) -> Iterator[Running]:
        server, database = program("selfserv"), _database(lab)
        assert isinstance(lab.key.private_key, X25519PrivateKey)
        public = b"\xa1\x23\x03\x21\x00" + lab.key.config.public_key
        pkcs8 = PKCS8_HEAD + lab.key.private_key.private_bytes_raw() + public
        keys = b64encode(len(pkcs8).to_bytes(2) + pkcs8 + lab.config_list).decode()
        groups = ",".join(GROUPS[group] for group in scenario.server_groups)
        (port,) = reserved_ports(1)
        with (lab.folder / "selfserv.log").open("wb") as log:
            who = ["-d", f"sql:{database}", "-n", "both", "-e", "both", "-p", str(port)]
            process = subprocess.Popen(
                [server, *who, "-V", "tls1.3:tls1.3", "-v", "-I", groups, "-X", keys],
                stdout=log,
                stderr=log,
            )
        try:
            wait_until_listening(port)
            yield Running(port)
        finally:
            process.kill()
            process.wait(10)


def _database(lab: Lab) -> Path:
    """Certificates and keys as NSS keeps them: the authority trusted, one certificate with both names."""
    database = lab.folder / "nssdb"
    if database.exists():
        return database
    certutil, pk12util = program("certutil"), program("pk12util")
    bundle = lab.folder / "both.p12"
    bundle.write_bytes(lab.pkcs12(lab.both, "both", PASSWORD.encode()))
    database.mkdir()
    place = ["-d", f"sql:{database}"]
    for command in (
        [certutil, "-N", *place, "--empty-password"],
        [certutil, "-A", *place, "-n", "root", "-t", "CT,C,C", "-i", str(lab.root_file)],
        [pk12util, "-i", str(bundle), *place, "-W", PASSWORD, "-K", ""],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    return database
