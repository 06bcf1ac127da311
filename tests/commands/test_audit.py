"""`aegis audit` as an auditor runs it: files in, an exit status out, and a clear word on what to do next."""

import asyncio
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner, Result

from commands.audit import command
from controlplane.ledger import keys, node
from controlplane.ledger.backends.posix import PosixStorage
from controlplane.ledger.log import Log
from ledger.checkpoint import Checkpoint
from ledger.commitment import Opening
from ledger.keys import SignatureType, SigningKey
from ledger.leaf import DialectCode, Leaf, LeafFlag, LeafKind
from ledger.policy import parse_policy
from ledger.proof import parse_proof
from policies.model import ExchangeId, UnixNanos
from sidecar.audit.leaves import Group, Openings
from sidecar.audit.openings import find_openings
from sidecar.audit.spool import SUFFIX, Placement, open_spool
from sidecar.audit.statements import keep, keep_payloads, payloads_of
from tests.controlplane.ledger.logs import packed
from tests.fakes.entries import audit_entry
from tests.fakes.ledger_producers import PRODUCER

ORIGIN = "forest.example/node-a"
EXCHANGE = "01JD00000000000000000000AA"
ENTRY = audit_entry()._replace(
    exchange=ExchangeId(EXCHANGE),
    ended_at=UnixNanos(1000),
    started_at=UnixNanos(0),
    request_digest=bytes(32),
    response_digest=bytes(32),
    findings={"EMAIL": 2},
)
OPENING = Opening(b"s" * 32, *payloads_of([ENTRY]))


def leaf(seq: int) -> bytes:
    commitment = OPENING.commitment if seq == 300 else seq.to_bytes(32, "big")
    flags = LeafFlag.LEFT_POD | LeafFlag.REDACTED
    return Leaf(
        *(LeafKind.EXCHANGE, DialectCode.OPENAI_CHAT, flags, 17, 0, 200, 0),
        *(PRODUCER, 1, seq, 1_790_000_000_000, 3, commitment),
    ).pack()


async def write_log(directory: Path, *growths: int) -> None:
    if not directory.exists():
        node.initialise(directory, ORIGIN)
    storage = PosixStorage(directory / "log")
    log = await Log.load(storage, storage, keys.load(directory / "keys"), lambda: 1_900_000_000)
    for count in growths:
        await log.append(*packed([leaf(seq) for seq in range(log.size, log.size + count)]))
        await log.publish()
    storage.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("audit") / "data"
    asyncio.run(write_log(directory, 5, 295, 300))
    return directory


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """A node's directory that the test may spoil."""
    shutil.copytree(original, tmp_path / "data")
    return tmp_path / "data"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def report(*arguments: object) -> tuple[int, dict[str, object]]:
    result = run(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def vkey(data: Path, number: int = 0) -> str:
    return str(parse_policy((data / "policy").read_bytes()).logs[number].key)


# --- prove and verify ---


@pytest.mark.parametrize("trust", ["policy", "ed25519", "mldsa"])
def test_proof_that_was_made_verifies_and_tells_what_the_leaf_says(original: Path, tmp_path: Path, trust: str) -> None:
    out = tmp_path / "p.tlog-proof"
    believed = {
        "policy": ["--policy", original / "policy"],
        "ed25519": ["--vkey", vkey(original, 0)],
        "mldsa": ["--vkey", vkey(original, 1)],
    }[trust]

    assert run("prove", 300, "--log", original, "--out", out).exit_code == 0
    status, facts = report("verify", out, *believed)

    assert status == 0
    assert (facts["ok"], facts["index"], facts["origin"], facts["size"]) == (True, 300, ORIGIN, 600)
    assert facts["leaf"] == {
        "kind": "exchange",
        "dialect": "openai_chat",
        "flags": ["left_pod", "redacted"],
        "task": 17,
        "result": "forwarded",
        "status": 200,
        "lost": 0,
        "producer_id": PRODUCER.hex(),
        "epoch": 1,
        "seq": 300,
        "time": "2026-09-21T14:13:20Z",
        "policy_revision": 3,
        "commitment": OPENING.commitment.hex(),
    }


def test_opening_that_fits_is_shown_and_another_is_not(original: Path, tmp_path: Path) -> None:
    proof, opening = tmp_path / "p.tlog-proof", tmp_path / "o"
    trust = ("--policy", original / "policy")
    opening.write_bytes(OPENING.encode())
    run("prove", 300, "--log", original, "--out", proof)

    status, facts = report("verify", proof, "--opening", opening, *trust)
    assert status == 0
    assert facts["statement"] == {
        "type": "exchange",
        "ended_us": 1,
        "exchange": "01JD00000000000000000000AA",
        "findings": {"EMAIL": 2},
        "request_sha256": "0" * 64,
        "response_sha256": "0" * 64,
        "route": "openai",
        "started_us": 0,
    }
    assert "EMAIL 2" in run("verify", proof, "--opening", opening, *trust).stdout

    run("prove", 301, "--log", original, "--out", proof)
    status, facts = report("verify", proof, "--opening", opening, *trust)
    assert (status, facts["ok"]) == (1, False)
    assert "commitment" in str(facts["problem"])


def test_leaf_of_ones_own_is_what_is_verified(original: Path, tmp_path: Path) -> None:
    proof, mine = tmp_path / "p.tlog-proof", tmp_path / "leaf"
    run("prove", 300, "--log", original, "--out", proof)

    mine.write_bytes(leaf(300))
    assert run("verify", proof, "--leaf", mine, "--policy", original / "policy").exit_code == 0
    mine.write_bytes(leaf(301))
    result = run("verify", proof, "--leaf", mine, "--policy", original / "policy")
    assert result.exit_code == 1
    assert "NOT verified" in result.stderr
    assert "evidence" in result.stderr


def test_proof_of_a_stranger_or_altered_is_refused(original: Path, tmp_path: Path) -> None:
    proof = tmp_path / "p.tlog-proof"
    run("prove", 300, "--log", original, "--out", proof)
    stranger = SigningKey(ORIGIN, SignatureType.ED25519, bytes(32)).verifier_key

    assert run("verify", proof, "--vkey", stranger).exit_code == 1
    for old, new in ((b"index 300", b"index 301"), (b"\n600\n", b"\n601\n"), (b"tlog-proof@v1", b"tlog-proof@v2")):
        proof.write_bytes(proof.read_bytes().replace(old, new))
        assert run("verify", proof, "--policy", original / "policy").exit_code == 1
        proof.write_bytes(proof.read_bytes().replace(new, old))
    assert run("verify", proof, "--policy", original / "policy").exit_code == 0


def test_proof_without_its_leaf_asks_for_it(original: Path, tmp_path: Path) -> None:
    proof = tmp_path / "p.tlog-proof"
    run("prove", 0, "--log", original, "--out", proof)
    bare = parse_proof(proof.read_bytes())
    proof.write_bytes(type(bare)(bare.index, bare.hashes, bare.checkpoint).encode())

    result = run("verify", proof, "--policy", original / "policy")

    assert result.exit_code == 2
    assert "--leaf" in result.stderr


def test_every_place_a_log_can_lie_in_is_found(original: Path, tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    shutil.copytree(original, tmp_path / "up/ledger")
    for where in (original, original / "log", tmp_path / "up"):
        assert run("prove", 0, "--log", where, "--out", tmp_path / "p").exit_code == 0


@pytest.fixture
def url(original: Path) -> Iterator[str]:
    """The log behind a web server that knows nothing of logs."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 its name in the standard library
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(original / "log")))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_log_is_proven_shown_and_checked_over_http(original: Path, url: str, tmp_path: Path) -> None:
    trust = ("--policy", original / "policy")
    assert run("prove", 5, "--log", url, "--out", tmp_path / "p", *trust).exit_code == 0
    assert run("verify", tmp_path / "p", *trust).exit_code == 0
    assert run("show", 5, "--log", url, *trust).exit_code == 0
    assert run("fsck", url, *trust).exit_code == 0
    assert run("prove", 600, "--log", url, "--out", tmp_path / "p").exit_code == 1


# --- by exchange ---


def write_spool(directory: Path, *, seq: int, index: int | None) -> Path:
    """A sidecar's spool that keeps the opening of one leaf, and knows where it stands if `index` is given."""
    directory.mkdir()
    spool = open_spool(directory / f"sidecar{SUFFIX}", entropy=lambda _: PRODUCER, now_us=0)
    start = Group(1, 0, seq, b"", Openings("", "", 0, bytes(32 * seq), keep_payloads([b""] * seq)))
    openings = Openings(EXCHANGE, EXCHANGE, 1, OPENING.salt, keep([ENTRY]))
    placements = [] if index is None else [Placement(1, seq, 1, index, ORIGIN, 600)]
    spool.commit(start, now_us=0, durable_through=None, placements=[])
    spool.commit(Group(1, seq, 1, b"", openings), now_us=0, durable_through=None, placements=placements)
    spool.close()
    return directory


def test_exchange_is_proven_by_its_request_id_and_opened(original: Path, tmp_path: Path) -> None:
    spool = write_spool(tmp_path / "spool", seq=300, index=300)
    proof = tmp_path / "p.tlog-proof"

    status, facts = report("prove", "--exchange", EXCHANGE, "--spool", spool, "--log", original, "--out", proof)

    assert (status, facts["index"], facts["opening"]) == (0, 300, str(tmp_path / "p.opening"))
    assert stat.S_IMODE((tmp_path / "p.opening").stat().st_mode) == 0o600, "it says what the leaf does not"
    checked = run("verify", proof, "--opening", tmp_path / "p.opening", "--policy", original / "policy")
    assert checked.exit_code == 0
    assert EXCHANGE in checked.stdout


def test_exchange_that_cannot_be_proven_says_why(original: Path, tmp_path: Path) -> None:
    for name, seq, index, exchange, complaint in (
        ("unknown", 300, 300, "01JDXXXXXXXXXXXXXXXXXXXXXX", "no opening"),
        ("waiting", 300, None, EXCHANGE, "not in a log yet"),
        ("other log", 300, 299, EXCHANGE, "another log"),
    ):
        spool = write_spool(tmp_path / name, seq=seq, index=index)
        result = run("prove", "--exchange", exchange, "--spool", spool, "--log", original, "--out", tmp_path / "p")
        assert result.exit_code == 1
        assert complaint in result.stderr


# --- erase ---


@pytest.mark.parametrize("placed", [True, False])
def test_erased_opening_is_gone_and_its_leaf_still_stands(original: Path, tmp_path: Path, *, placed: bool) -> None:
    spool = write_spool(tmp_path / "spool", seq=300, index=300 if placed else None)
    proof = ("prove", 300, "--log", original, "--out", tmp_path / "p")

    status, facts = report("erase", EXCHANGE, "--spool", spool, "--yes", "--log", original)

    assert (status, facts["erased"]) == (0, 1)
    (leaf,) = facts["leaves"]
    assert (leaf["producer_id"], leaf["epoch"], leaf["seq"]) == (PRODUCER.hex(), 1, 300)
    assert ("verified" in leaf) == placed
    assert not placed or leaf["leaf"]["commitment"] == OPENING.commitment.hex()
    assert not [file for file in spool.iterdir() if OPENING.salt in file.read_bytes()]
    assert run(*proof).exit_code == 0
    assert run("verify", tmp_path / "p", "--policy", original / "policy").exit_code == 0
    again = run("erase", EXCHANGE, "--spool", spool, "--yes")
    assert again.exit_code == 1
    assert "no opening" in again.stderr


def test_nothing_is_erased_before_the_question_is_answered(tmp_path: Path) -> None:
    spool = write_spool(tmp_path / "spool", seq=300, index=300)
    erase = [str(argument) for argument in ("erase", EXCHANGE, "--spool", spool)]

    refused = CliRunner().invoke(command, erase, input="n\n")
    assert refused.exit_code == 1
    assert f"index 300 of {ORIGIN}" in refused.stderr
    assert find_openings(spool, EXCHANGE)

    confirmed = CliRunner().invoke(command, erase, input="y\n")
    assert confirmed.exit_code == 0
    assert "erased 1 opening" in confirmed.stdout
    assert not find_openings(spool, EXCHANGE)


def test_an_erased_leaf_that_does_not_stand_in_the_log_is_told(original: Path, tmp_path: Path) -> None:
    spool = write_spool(tmp_path / "spool", seq=300, index=299)

    result = run("erase", EXCHANGE, "--spool", spool, "--yes", "--log", original)

    assert result.exit_code == 1
    assert "another log" in result.stderr
    assert "openings are erased" in result.stderr


def test_erasing_needs_a_log_that_can_be_read_before_anything_is_erased(tmp_path: Path) -> None:
    spool = write_spool(tmp_path / "spool", seq=300, index=300)

    for where, log in ((spool, tmp_path / "none"), (tmp_path / "nowhere", None)):
        options = ("--log", log) if log else ()
        assert run("erase", EXCHANGE, "--spool", where, "--yes", *options).exit_code == 2

    assert find_openings(spool, EXCHANGE)


# --- show ---


def test_leaf_is_shown_verified_or_says_that_it_is_not(original: Path, tmp_path: Path) -> None:
    assert "verified: leaf 300" in run("show", 300, "--log", original).stdout
    (tmp_path / "leaf").write_bytes(leaf(3))
    assert run("show", "--leaf", tmp_path / "leaf").stdout.startswith("not verified")
    (tmp_path / "leaf").write_bytes(b"something else")
    assert report("show", "--leaf", tmp_path / "leaf")[1]["leaf"] == {
        "unknown": "a leaf has 96 bytes, these are 14",
        "hex": b"something else".hex(),
    }


def test_codes_of_tomorrow_are_shown_as_numbers(tmp_path: Path) -> None:
    strange = Leaf(99, 98, 0x8001, 1, 97, 0, 0, PRODUCER, 1, 0, 2**63, 0, bytes(32)).pack()
    (tmp_path / "leaf").write_bytes(strange)

    shown = report("show", "--leaf", tmp_path / "leaf")[1]["leaf"]

    assert isinstance(shown, dict)
    assert (shown["kind"], shown["dialect"], shown["result"]) == ("code 99", "code 98", "code 97")
    assert shown["flags"] == ["left_pod", "bits 0x8000"]
    assert shown["time"] == f"{2**63} ms since 1970"


def test_altered_leaf_is_not_shown(data: Path) -> None:
    bundle = data / "log/tile/entries/000"
    bundle.chmod(0o644)
    bundle.write_bytes(bundle.read_bytes().replace(leaf(7), leaf(8)))

    assert run("show", 7, "--log", data).exit_code == 1
    assert run("show", 6, "--log", data).exit_code == 0


# --- fsck ---


def test_whole_log_is_whole(original: Path) -> None:
    status, facts = report("fsck", original)
    assert (status, facts["faults"], facts["size"]) == (0, [], 600)
    assert "whole: 600 leaves" in run("fsck", original).stdout


def spoil(path: Path, content: bytes) -> None:
    if path.exists():
        path.chmod(0o644)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("tile/0/000", "hashes of the entries"),
        ("tile/entries/001", "entry 256"),
        ("tile/entries/002.p/88", "length-prefixed"),
        ("tile/1/000.p/2", "hashes of the entries"),
        ("tile/0/000.p/5", "another history"),
        ("tile/entries/000.p/5", "another history"),
        ("tile/0/003.p/1", "rolled back"),
        ("tile/0/extra", "no tile or bundle has this name"),
    ],
)
def test_every_spoilt_file_is_named(data: Path, path: str, problem: str) -> None:
    file = data / "log" / path
    content = bytearray(file.read_bytes() if file.exists() else bytes(32))
    content[3] ^= 1
    if path == "tile/entries/002.p/88":
        content[1] ^= 1
    spoil(file, bytes(content))

    status, facts = report("fsck", data)

    faults = facts["faults"]
    assert status == 1
    assert isinstance(faults, list)
    assert [fault["path"] for fault in faults] == [path]
    assert problem in faults[0]["problem"]
    assert path in run("fsck", data).stderr


def test_hundreds_of_faults_are_counted_not_listed(data: Path) -> None:
    for number in range(150):
        spoil(data / f"log/tile/junk-{number}", b"")

    status, facts = report("fsck", data)

    assert (status, facts["count"]) == (1, 150)
    assert len(facts["faults"]) == 100  # type: ignore[arg-type]
    assert "and 50 more" in run("fsck", data).stderr


def test_log_that_grows_meanwhile_is_no_fault(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The checkpoint was read before the growth, the directory is listed after it.
    from commands.audit import fsck

    steps = fsck.check_tree

    def grow_meanwhile(*arguments: object) -> object:
        yield from steps(*arguments)  # type: ignore[arg-type]
        asyncio.run(write_log(data, 300, 1))

    monkeypatch.setattr(fsck, "check_tree", grow_meanwhile)

    assert report("fsck", data)[0] == 0


def test_second_tree_signed_with_the_same_keys_is_a_fault(data: Path) -> None:
    """What a restored backup and a careless operator make."""
    signers = keys.load(data / "keys")
    for size in (600, 601):
        fork = signers.sign(Checkpoint(ORIGIN, size, bytes(32)), 1_900_000_000).note
        spoil(data / "log/.state/lock", fork)

        status, facts = report("fsck", data)

        assert status == 1
        assert "contradicts" in str(facts["faults"])


# --- wrong usage ---


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["verify", "nothing", "--vkey", "KEY"], "cannot be read"),
        (["verify", "nothing"], "nobody is trusted yet"),
        (["verify", "nothing", "--vkey", "nonsense"], "--vkey"),
        (["verify", "nothing", "--vkey", "KEY", "--policy", "x"], "not both"),
        (["verify", "nothing", "--policy", "nothing"], "cannot be read"),
        (["verify", "nothing", "--policy", "BAD"], "line 1"),
        (["verify", "nothing", "--vkey", "WITNESS"], "witness"),
        (["prove", "--log", "LOG"], "give INDEX"),
        (["prove", "1", "--exchange", "x", "--log", "LOG"], "give INDEX"),
        (["prove", "--exchange", "x", "--log", "LOG"], "--spool"),
        (["prove", "--exchange", "x", "--spool", "nothing", "--log", "LOG"], "no audit spool"),
        (["prove", "1", "--log", "nothing"], "there is no log"),
        (["prove", "1", "--log", "LOG", "--out", "no/such/directory"], "cannot be written"),
        (["prove", "1", "--log", "http://127.0.0.1:1/"], "cannot be read"),
        (["prove", "1", "--log", "http://127.0.0.1:port/"], "no number"),
        (["prove", "1", "--log", "http:///"], "no host"),
        (["show"], "give INDEX and --log"),
        (["show", "1", "--log", "LOG", "--leaf", "x"], "give INDEX and --log"),
        (["fsck", "nothing"], "there is no log"),
        (["fsck", "LOGONLY"], "nobody is trusted yet"),
    ],
)
def test_wrong_usage_says_what_is_wrong(original: Path, tmp_path: Path, arguments: list[str], complaint: str) -> None:
    (tmp_path / "bad").write_text("frobnicate\n")
    shutil.copytree(original / "log", tmp_path / "copy/log")
    witness = SigningKey("w", SignatureType.ED25519_COSIGNATURE, bytes(32)).verifier_key
    stands_for = {
        "KEY": vkey(original),
        "LOG": str(original),
        "BAD": str(tmp_path / "bad"),
        "WITNESS": str(witness),
        "LOGONLY": str(tmp_path / "copy"),
    }

    result = run(*(stands_for.get(argument, argument) for argument in arguments))

    assert result.exit_code == 2, result.output
    assert complaint in result.stderr


def test_no_grpc_and_no_server_is_loaded() -> None:
    code = (
        "import sys, aegis\n"
        "try: aegis.main(['audit', 'show', '--help'])\n"
        "except SystemExit: pass\n"
        "import commands.audit.prove, commands.audit.fsck, sidecar.audit.openings\n"
        "heavy = ('grpc', 'google', 'aegispb', 'controlplane', 'starlette', 'uvicorn', 'sqlalchemy', 'asyncio')\n"
        "print(sorted(name for name in heavy if name in sys.modules))"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert result.stdout.splitlines()[-1] == "[]", result.stdout + result.stderr
