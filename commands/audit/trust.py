"""Whom the auditor believes: a trust policy, or the verifier keys of a log."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from ledger.errors import MalformedError
from ledger.keys import SignatureType, parse_vkey
from ledger.policy import TrustedLog, TrustPolicy, parse_policy

Function = Callable[..., Any]
_LOG_TYPES: Final = (SignatureType.ED25519, SignatureType.MLDSA44_COSIGNATURE)


def trust_options(function: Function) -> Function:
    """Adds `--policy` and `--vkey`."""
    policy = click.option(
        "--policy", "policy_file", type=click.Path(path_type=Path), help="Trust policy (c2sp.org/tlog-policy)."
    )
    vkey = click.option("--vkey", "vkeys", multiple=True, metavar="KEY", help="Verifier key of a log. Repeatable.")
    return policy(vkey(function))


def trusted(policy_file: Path | None, vkeys: tuple[str, ...], beside: Path | None = None) -> TrustPolicy:
    """The policy that the options name; `beside`: one that lies with the log, believed if nothing else is said.

    Raises click.UsageError.
    """
    if policy_file is not None and vkeys:
        raise click.UsageError("give --policy or --vkey, not both")
    if vkeys:
        return _of_keys(vkeys)
    if policy_file is None and beside is not None and beside.is_file():
        policy_file = beside
        click.echo(
            f"believing the keys in {beside}; an auditor from outside gives his own --policy or --vkey", err=True
        )
    if policy_file is None:
        raise click.UsageError(
            "nobody is trusted yet: give --policy FILE (a node writes one into its data directory) or --vkey KEY"
        )
    try:
        return parse_policy(policy_file.read_bytes())
    except OSError as error:
        raise click.UsageError(f"{policy_file} cannot be read: {error.strerror}") from None
    except MalformedError as error:
        raise click.UsageError(f"{policy_file}: {error}") from None


def _of_keys(vkeys: tuple[str, ...]) -> TrustPolicy:
    try:
        keys = [parse_vkey(vkey) for vkey in vkeys]
    except MalformedError as error:
        raise click.UsageError(f"--vkey: {error}") from None
    for key in keys:
        if key.type not in _LOG_TYPES:
            raise click.UsageError("--vkey: this is the key of a witness; a log signs with type 0x01 or 0x06")
    return TrustPolicy(tuple(map(TrustedLog, keys)))
