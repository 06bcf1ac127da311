"""`aegis identity`: what it writes opens the doors that it should, and nothing else."""

import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding

from aegis import main
from controlplane.identity.identity import Identity
from transport.tls13.certificates import Trust


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["identity", *map(str, arguments)])


def test_a_tunnel_certificate_is_believed_for_its_hosts_under_the_ca_beside_it(tmp_path: Path) -> None:
    done = run(
        tmp_path / "llm", "spiffe://mesh.example/ns/models/sa/llm", "--ca", tmp_path / "ca",
        "--host", "mesh.example", "--host", "llm.models.internal",
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    identity = Identity.read(tmp_path / "llm")
    trust = Trust.from_pem(identity.ca_pem)
    for name in ("mesh.example", "llm.models.internal"):
        trust.verify(
            (identity.certificate.public_bytes(Encoding.DER),), name, datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
        )
    assert str(identity.spiffe_id) == "spiffe://mesh.example/ns/models/sa/llm"
    assert stat.S_IMODE((tmp_path / "llm" / "tls.key").stat().st_mode) == 0o600
    assert "PRIVATE" not in done.output


def test_all_come_from_one_ca_and_what_is_not_due_is_kept(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("one", "two"))
    assert run(first, "spiffe://d.example/sidecar/one", "--ca", tmp_path / "ca").exit_code == 0
    kept = (first / "tls.crt").read_bytes()
    assert run(first, "spiffe://d.example/sidecar/one", "--ca", tmp_path / "ca").exit_code == 0
    assert run(second, "spiffe://d.example/operator/two", "--ca", tmp_path / "ca").exit_code == 0

    assert (first / "tls.crt").read_bytes() == kept
    assert (first / "ca.crt").read_bytes() == (second / "ca.crt").read_bytes()


def test_the_lifetime_is_what_was_asked_for(tmp_path: Path) -> None:
    assert run(tmp_path / "a", "spiffe://d.example/operator/a", "--ca", tmp_path / "ca", "--days", 30).exit_code == 0

    leaf = Identity.read(tmp_path / "a").certificate
    assert timedelta(days=30) <= leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(days=31)


def test_an_id_that_may_do_nothing_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for wrong in ("spiffe://d.example/service/x", "bot", "spiffe://D.example/operator/x", "spiffe://d.example/"):
        done = run(tmp_path / "x", wrong, "--ca", tmp_path / "ca")
        assert done.exit_code == 1, done.output
        assert done.output.startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_ca_of_another_trust_domain_is_not_used(tmp_path: Path) -> None:
    assert run(tmp_path / "a", "spiffe://one.example/operator/a", "--ca", tmp_path / "ca").exit_code == 0

    done = run(tmp_path / "b", "spiffe://two.example/operator/b", "--ca", tmp_path / "ca")

    assert done.exit_code == 1
    assert "not of spiffe://two.example" in done.output
    assert not (tmp_path / "b").exists()
