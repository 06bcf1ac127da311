"""What the scorer says on the development corpora; figures that hold may not get worse.

The corpora are not part of this repository: without them, these tests are skipped.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from policies.airlock.scan import Scanner

pytestmark = pytest.mark.slow

STRUCTURED = (
    "ACCOUNT_NUMBER AGE_OVER_89 BIOMETRIC CERTIFICATE_NUMBER CREDIT_CARD DATE DEVICE_SERIAL EMAIL IBAN IP_ADDRESS "
    "LICENSE_PLATE MRN PHONE PHOTO_ID SSN UNIQUE_ID URL VEHICLE_ID"
)
"""Labels of the synthetic corpus that patterns can find, in the groups of the scorer."""

GATES = {
    # Structured labels only: names and places are a tagger's, not yet built.
    "synth": [
        *(f"{label}.recall>=0.99" for label in STRUCTURED.split()),
        *(f"{label}.precision>=0.97" for label in STRUCTURED.split()),
        "HEALTH_PLAN_ID.recall>=0.98",
        "HEALTH_PLAN_ID.precision>=0.97",
        "over_redaction<=0.03",
        "neg_touched<=0.01",
    ],
    "obfuscated": ["entity_leak<=0.05", "typed_f1>=0.97", "over_redaction<=0.01"],
    "asq_phi": [
        *(f"{label}.recall>=0.98" for label in ("DATE", "MRN", "PHONE", "SSN")),
        "HEALTH_PLAN_ID.recall>=0.95",
        "neg_touched<=0.03",
    ],
    "presidio_research": [
        *(f"{label}.recall>=0.99" for label in ("CREDIT_CARD", "DATE", "EMAIL", "IBAN", "IP_ADDRESS", "SSN", "URL")),
        "PHONE.recall>=0.84",
        "neg_touched<=0.01",
    ],
    "meddocan": [
        *(f"{label}.recall>=0.97" for label in ("CERTIFICATE_NUMBER", "DATE", "EMAIL", "HEALTH_PLAN_ID")),
        "MRN.recall>=0.91",
        "MRN.precision>=0.99",
        "over_redaction<=0.01",
    ],
}


@pytest.mark.parametrize("corpus", GATES)
@pytest.mark.timeout(300)
def test_corpus_is_found_at_least_as_well_as_before(shared: Path, corpus: str) -> None:
    scan = shlex.join([sys.executable, "-c", "import aegis; aegis.main()", "airlock", "scan", "--jsonl"])
    tools = shared / "tools" / "airlock"

    scored = subprocess.run(
        [
            *(sys.executable, tools / "score.py", shared / "data" / "airlock" / f"{corpus}.dev.jsonl"),
            *("--cmd", scan, "--groups", f"@{tools / 'labelgroups.json'}", "--gate", ",".join(GATES[corpus])),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
    )

    assert scored.returncode == 0, scored.stdout[-4000:] + scored.stderr[-2000:]


@pytest.mark.parametrize("corpus", ["wikigold", "wnut17"])
def test_text_without_identifiers_is_hardly_touched(shared: Path, corpus: str) -> None:
    scanner = Scanner()
    lines = (shared / "data" / "airlock" / f"{corpus}.dev.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]

    ours = {"ADDRESS", "DATE", "DATE_OF_BIRTH", "EMAIL", "NAME", "URL"}  # which such text does hold
    touched = [text for text in texts if any(span.label not in ours for span in scanner.scan(text))]

    assert len(touched) <= len(texts) // 100
