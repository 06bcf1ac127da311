"""qh3, a fork of aioquic with the client's half of ECH: client only, over QUIC."""

import json
import subprocess
from base64 import b64decode, b64encode
from typing import Final

from tests.transport.interop.lab import SECRET, Lab, first_key, python_of
from tests.transport.interop.scenarios import Ech, Outcome, Scenario, cells

PROGRAM: Final = """
import asyncio, base64, json, sys
from qh3.asyncio.client import connect
from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.h3.connection import H3_ALPN
from qh3.quic.configuration import QuicConfiguration

job = json.load(sys.stdin)
said = {"error": "", "accepted": False, "retry_configs": ""}
made = []

class Protocol(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        made.append(self)

async def main():
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, cafile=job["authorities"], server_name=job["name"]
    )
    if job["config_list"]:
        configuration.ech_config_list = base64.b64decode(job["config_list"])
    async with connect("127.0.0.1", job["port"], configuration=configuration, create_protocol=Protocol) as client:
        await client.ping()

try:
    asyncio.run(asyncio.wait_for(main(), 10))
except (Exception, asyncio.CancelledError) as error:
    said["error"] = f"{type(error).__name__}: {error}"
if made:
    said["accepted"] = made[0]._quic.ech_accepted
    said["retry_configs"] = base64.b64encode(made[0]._quic.ech_retry_configs or b"").decode()
print(json.dumps(said))
"""


class Qh3Client:
    name = "qh3"
    cells = cells("ech+hrr", "stale+hrr", "grease+hrr", "ech+pq", "grease")  # crashes on a retry; no choice of groups
    checks_inner_name = False
    recovers = False
    tells_retry = True

    def fetch(self, lab: Lab, scenario: Scenario, port: int) -> Outcome:
        lists = {Ech.NONE: b"", Ech.REAL: lab.config_list, Ech.STALE: lab.stale_list}
        job = {
            "name": SECRET,
            "port": port,
            "authorities": str(lab.root_file),
            "config_list": b64encode(lists[scenario.ech]).decode(),
        }
        run = subprocess.run(
            [python_of("qh3"), "-c", PROGRAM],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        said = json.loads(run.stdout.splitlines()[-1]) if run.stdout else {"error": "no output"}
        return Outcome(
            succeeded=not said["error"],
            accepted=said.get("accepted"),
            retry_key=first_key(b64decode(said.get("retry_configs", ""))),
            text=run.stdout + run.stderr,
        )
