"""A PostgreSQL server of our own: real, on a Unix socket, gone with the tests."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """Where `initdb` and `pg_ctl` are, of the newest version; None: nowhere."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found += [Path(path).parent for path in [shutil.which("initdb")] if path]
    return max(found, default=None, key=lambda path: (path.parent.name.zfill(4), str(path)))


@contextmanager
def postgres_server(bin_directory: Path) -> Iterator[str]:
    """URL of a server, to which the name of a database is to be added by `database`."""
    with tempfile.TemporaryDirectory(prefix="aegis-pg-") as directory:
        data = Path(directory, "data")
        as_user: list[str] = []
        if os.geteuid() == 0:  # which PostgreSQL refuses to run as
            user = pwd.getpwnam("postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
            as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        options = f"-k {directory} -c listen_addresses= -c fsync=off -c max_connections=50"

        def run(program: str, *arguments: str) -> None:
            argv = [*as_user, str(bin_directory / program), "-D", str(data), *arguments]
            subprocess.run(argv, check=True, capture_output=True, cwd=directory, timeout=60)

        run("initdb", "-A", "trust", "-U", "postgres", "--no-sync")
        run("pg_ctl", "-o", options, "-l", f"{directory}/log", "-w", "start")
        try:
            yield f"postgresql://postgres@/DATABASE?host={directory}"
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "stop")


def database(server: str, name: str) -> str:
    """URL of a new, empty database."""
    import psycopg

    with psycopg.connect(server.replace("DATABASE", "postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return server.replace("DATABASE", name)
