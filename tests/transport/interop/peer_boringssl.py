"""BoringSSL, through the curl that curl_cffi brings: client only, over TCP and over QUIC."""

import json
import re
import subprocess
from base64 import b64decode, b64encode
from typing import Final

from tests.transport.interop.lab import PUBLIC, SECRET, Lab, first_key, python_of
from tests.transport.interop.scenarios import P256, P384, PQ, X25519, Ech, Outcome, Scenario, cells

GROUPS: Final = {X25519: "X25519", P256: "P-256", P384: "P-384", PQ: "X25519MLKEM768"}
PROGRAM: Final = """
import io, json, sys
from curl_cffi import Curl, CurlError, CurlHttpVersion, CurlInfo, CurlOpt

job = json.load(sys.stdin)
body, log = io.BytesIO(), []
curl = Curl()
curl.setopt(CurlOpt.URL, f"https://{job['name']}:{job['port']}/".encode())
curl.setopt(CurlOpt.RESOLVE, [f"{job['name']}:{job['port']}:127.0.0.1".encode()])
curl.setopt(CurlOpt.CAINFO, job["authorities"].encode())
curl.setopt(CurlOpt.HTTP3_SSL_EC_CURVES if job["http3"] else CurlOpt.SSL_EC_CURVES, job["groups"].encode())
curl.setopt(CurlOpt.HTTP_VERSION, CurlHttpVersion.V3ONLY if job["http3"] else CurlHttpVersion.V1_1)
curl.setopt(CurlOpt.TIMEOUT, 15)
curl.setopt(CurlOpt.VERBOSE, 1)
curl.setopt(CurlOpt.DEBUGFUNCTION, lambda kind, data: log.append(data.decode(errors="replace")) if kind == 0 else None)
curl.setopt(CurlOpt.WRITEDATA, body)
if job["ech"]:
    curl.setopt(CurlOpt.ECH, job["ech"].encode())
error = ""
try:
    curl.perform()
except CurlError as failed:
    error = str(failed)
print(json.dumps({"error": error, "log": "".join(log), "body": body.getvalue().decode(errors="replace")}))
"""


class BoringClient:
    checks_inner_name = False
    recovers = False

    def __init__(self, *, http3: bool = False) -> None:
        self._http3 = http3
        self.name = "boringssl (quic)" if http3 else "boringssl"
        self.cells = cells()
        # Over QUIC curl compares the name by itself, before it hears of the rejection, and says so instead.
        self.tells_retry = not http3

    def fetch(self, lab: Lab, scenario: Scenario, port: int) -> Outcome:
        python = python_of("curl_cffi")
        ech = {
            Ech.NONE: "false",
            Ech.REAL: "ecl:" + b64encode(lab.config_list).decode(),
            Ech.STALE: "ecl:" + b64encode(lab.stale_list).decode(),
            Ech.GREASE: "grease",
        }
        job = {
            "name": SECRET if scenario.ech is not Ech.GREASE else PUBLIC,
            "port": port,
            "authorities": str(lab.root_file),
            "groups": ":".join(GROUPS[group] for group in scenario.client_groups),
            "ech": ech[scenario.ech],
            "http3": self._http3,
        }
        run = subprocess.run(
            [python, "-c", PROGRAM], input=json.dumps(job), capture_output=True, text=True, timeout=30, check=False
        )
        said = json.loads(run.stdout or '{"error": "no output"}')
        retry = re.search(r"ECH: retry_configs ([A-Za-z0-9+/=]+)\n", said.get("log", ""))
        return Outcome(
            succeeded=not said["error"],
            retry_key=first_key(b64decode(retry[1])) if retry else None,
            text=run.stdout + run.stderr,
        )
