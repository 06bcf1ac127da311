"""Chromium, headless: it learns the ECH keys from DNS over HTTPS and recovers from a rejection by itself."""

import json
import shutil
import subprocess
import tempfile
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.transport.interop.doh import Zone, serving
from tests.transport.interop.lab import PUBLIC, SECRET, Lab, program
from tests.transport.interop.scenarios import Ech, Outcome, Scenario, cells

WAITING: Final = {
    "UseDnsHttpsSvcbEnforceSecureResponse": "true",
    "UseDnsHttpsSvcbSecureExtraTimeMax": "30s",
    "UseDnsHttpsSvcbSecureExtraTimePercent": "100",
    "UseDnsHttpsSvcbSecureExtraTimeMin": "30s",
}
FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--timeout=40000",
    # Wait for the HTTPS record, however long it takes: by default it is milliseconds, then it goes in the clear.
    "--enable-features=UseDnsHttpsSvcb:" + "/".join(f"{name}/{value}" for name, value in WAITING.items()),
    "--dump-dom",
)


class ChromiumClient:
    checks_inner_name = False
    tells_retry = False

    def __init__(self, *, http3: bool = False) -> None:
        self._http3 = http3
        self.name = "chromium (quic)" if http3 else "chromium"
        self.cells = cells("no ech")  # without a key it sends GREASE
        self.recovers = not http3  # told to use QUIC and nothing else, it gives up

    def fetch(self, lab: Lab, scenario: Scenario, port: int) -> Outcome:
        browser, certutil = program("chromium"), program("certutil")
        lists = {Ech.REAL: lab.config_list, Ech.STALE: lab.stale_list, Ech.GREASE: b""}
        host = PUBLIC if scenario.ech is Ech.GREASE else SECRET
        zone = Zone(host, port, "h3" if self._http3 else "http/1.1", lists[scenario.ech])
        quic = [f"--origin-to-force-quic-on={host}:{port}", f"--ignore-certificate-errors-spki-list={_pins(lab)}"]
        with tempfile.TemporaryDirectory(dir=lab.folder) as home, serving(zone, lab) as resolver:
            _trust(Path(home), certutil, lab)
            profile = Path(home) / "profile"
            profile.mkdir()
            secure_dns = {"mode": "secure", "templates": f"https://localhost:{resolver}/dns-query"}
            (profile / "Local State").write_text(json.dumps({"dns_over_https": secure_dns}))
            run = subprocess.run(
                [
                    browser,
                    *FLAGS,
                    *(quic if self._http3 else ()),
                    f"--user-data-dir={profile}",
                    f"https://{host}:{port}/",
                ],
                env={"HOME": home, "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            shutil.rmtree(profile, ignore_errors=True)
        # Our server and Go's answer with a report, selfserv with the request; an error page has neither.
        is_answered = '"accepted":' in run.stdout or f"Host: {host}" in run.stdout
        return Outcome(succeeded=is_answered, text=run.stdout + run.stderr)


def _pins(lab: Lab) -> str:
    """Over QUIC Chromium believes no authority that it does not come with, but keys that it is told."""
    spkis = [
        chain.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for chain in lab.chains
    ]
    return ",".join(b64encode(sha256(spki).digest()).decode() for spki in spkis)


def _trust(home: Path, certutil: str, lab: Lab) -> None:
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    place = ["-d", f"sql:{database}"]
    subprocess.run([certutil, "-N", *place, "--empty-password"], check=True, capture_output=True, timeout=30)
    authority = ["-n", "root", "-t", "C,,", "-i", str(lab.root_file)]
    subprocess.run([certutil, "-A", *place, *authority], check=True, capture_output=True, timeout=30)
