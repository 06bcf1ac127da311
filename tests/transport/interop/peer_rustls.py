"""rustls, through PyPI rtls, which looks like the `ssl` module: client only, as its servers have no ECH."""

import json
import re
import subprocess
from base64 import b64encode
from typing import Final

from tests.transport.interop.lab import SECRET, Lab, python_of
from tests.transport.interop.scenarios import Ech, Outcome, Scenario, cells

PROGRAM: Final = """
import base64, json, socket, sys
import rtls

job = json.load(sys.stdin)
context = rtls.create_default_context(cafile=job["authorities"])
context.minimum_version = rtls.TLSVersion.TLSv1_3
if job["config_list"]:
    context = context.set_ech_configs(base64.b64decode(job["config_list"]))
said = {"error": "", "status": ""}
try:
    with socket.create_connection(("127.0.0.1", job["port"]), timeout=15) as raw:
        with context.wrap_socket(raw, server_hostname=job["name"]) as tls:
            said["status"] = str(getattr(tls, "ech_status", ""))
            tls.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            said["body"] = tls.recv(65536).decode(errors="replace")
except Exception as error:
    said["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


class RustlsClient:
    name = "rustls"
    cells = cells("grease", "grease+hrr")  # the binding cannot be told to send GREASE ECH
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
            [python_of("rtls"), "-c", PROGRAM],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        said = json.loads(run.stdout or '{"error": "no output"}')
        retry = re.search(r"ServerRejectedEncryptedClientHello\(Some.*?public_key: ([0-9a-f]+),", said["error"])
        return Outcome(
            succeeded=not said["error"],
            accepted=said["status"] == "accepted" if said.get("status") else None,
            retry_key=bytes.fromhex(retry[1]) if retry else None,
            text=run.stdout + run.stderr,
        )
