"""`aegis identity`: certificates of a CA of one's own, for trials and for machines without an identity service."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

_DAYS = click.IntRange(1, 398)
"""398 days: what browsers and the CA/Browser Forum's baseline requirements allow at most."""


@click.command("identity")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.argument("spiffe_id")
@click.option(
    "--ca",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The CA's directory: ca.crt and ca.key. Made if it is not there; keep it to yourself.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="DNS name or IP address that a server answers for; for each once. Clients need none.",
)
@click.option("--days", type=_DAYS, default=1, show_default=True, help="How long the certificate is valid.")
def command(directory: Path, spiffe_id: str, ca: Path, hosts: tuple[str, ...], days: int) -> None:
    """Write tls.crt, tls.key and ca.crt for SPIFFE_ID into DIRECTORY, from a CA of your own.

    What is there is kept until 70 % of its time have passed, so a timer may call this as often as it likes; programs
    take renewed files up by themselves. In a cluster, take cert-manager or SPIRE: whoever reads this CA's key is
    everyone.

    \b
    spiffe://DOMAIN/controlplane/NAME   the control plane; --host: where it is reached
    spiffe://DOMAIN/operator/NAME       who pushes policies and rotates keys
    spiffe://DOMAIN/ns/NS/sa/SA         a sidecar, as is sidecar/NAME
    """
    from controlplane.identity.ca import LocalAuthority
    from controlplane.identity.identity import Identity
    from controlplane.identity.spiffe import IdentityError, Role, SpiffeId

    now = datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
    try:
        wanted = SpiffeId.parse(spiffe_id)
        if wanted.role is Role.OTHER:
            raise click.ClickException(f"{spiffe_id} may do nothing; see `aegis identity --help` for the ids that may")
        authority = LocalAuthority.open_or_create(ca, wanted.trust_domain, now)
        identity: Identity = authority.enroll(
            directory, wanted.path, now=now, hosts=hosts, lifetime=timedelta(days=days)
        )
    except (IdentityError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    until, due = identity.certificate.not_valid_after_utc, identity.renew_at
    click.echo(f"{directory}: {wanted}, valid until {until:%Y-%m-%d %H:%M} UTC, due from {due:%Y-%m-%d %H:%M}")
