# /// script
# requires-python = ">=3.11"
# dependencies = ["grpcio-tools==1.80.0", "mypy-protobuf==5.1.0", "googleapis-common-protos==1.76.0"]
# ///
"""Write the generated code beside proto/aegispb/v1/*.proto, or with --check say whether it is stale.

Run as `uv run --no-project scripts/gen_proto.py [--check]`: grpcio-tools pins protobuf<7 and must stay out of our lock.
"""

import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(out: Path) -> None:
    import google.rpc

    well_known = str(resources.files("grpc_tools").joinpath("_proto"))
    googleapis = str(Path(next(iter(google.rpc.__path__))).parent.parent)
    files = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{well_known}", f"-I{googleapis}"]
        + [f"--{kind}={out}" for kind in ("python_out", "grpc_python_out", "mypy_out", "mypy_grpc_out")]
        + files,
        check=True,
    )


def generated(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.name.endswith(SUFFIXES)}


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, committed = generated(Path(scratch)), generated(PROTO)
    if "--check" in sys.argv:
        stale = sorted(k for k in fresh.keys() | committed.keys() if fresh.get(k) != committed.get(k))
        for name in stale:
            print(f"stale or left over: proto/{name}; run `just gen`")
        return bool(stale)
    for name in committed.keys() - fresh.keys():
        (PROTO / name).unlink()
    for name, content in fresh.items():
        (PROTO / name).write_bytes(content)
    print(f"wrote {len(fresh)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
