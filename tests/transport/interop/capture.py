"""Writes the hellos of other clients, with the key that opens them, for the fast suite: tests/transport/ech/captured.

python -m tests.transport.interop.capture     (after .ci/install-tls-peers)
"""

import json
import tempfile
from pathlib import Path

from tests.transport.interop.lab import PUBLIC, SECRET, Lab
from tests.transport.interop.peer_go import GoServer
from tests.transport.interop.recorder import recording
from tests.transport.interop.scenarios import SCENARIOS, Client, Ech, Scenario
from tests.transport.interop.test_matrix import CLIENTS
from transport.ech.pem import encode_pem

FOLDER = Path(__file__).parents[1] / "ech/captured"


def capture(lab: Lab, client: Client, scenario: Scenario) -> dict[str, object]:
    """One connection: the bodies of the first and, after a HelloRetryRequest, the second ClientHello."""
    chains = [lab.both, lab.secret]
    with GoServer().serve(lab, scenario, chains) as running, recording(running.port) as recorder:
        client.fetch(lab, scenario, recorder.port)
    first = next(each for each in recorder.recordings if each.client_bodies)  # Chromium may come again, or come early
    hellos = [body.hex() for body in first.client_bodies]
    opens = scenario.ech is Ech.REAL
    return {"client": client.name, "scenario": scenario.name, "opens": opens, "hellos": hellos}


def main() -> None:
    """Every client in every scenario that has ECH in it."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        cells = [(c, s) for c in CLIENTS for s in SCENARIOS if s.ech is not Ech.NONE and s.name in c.cells]
        captured = [capture(lab, client, scenario) for client, scenario in cells if client.name != "own"]
    FOLDER.mkdir(exist_ok=True)
    content = {"public_name": PUBLIC, "inner_name": SECRET, "connections": captured}
    (FOLDER / "hellos.json").write_text(json.dumps(content, indent=1) + "\n")
    (FOLDER / "key.pem").write_bytes(encode_pem(lab.key))


if __name__ == "__main__":
    main()
