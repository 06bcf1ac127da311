"""The subcommands, and what they have in common: options for trust, exit status, `--json`."""

import click

from commands.audit.erase import erase
from commands.audit.fsck import fsck
from commands.audit.prove import prove
from commands.audit.show import show
from commands.audit.verify import verify


@click.group("audit")
def command() -> None:
    """Verify what a ledger proves, with nothing but files.

    Exit status: 0 verified, 1 verification failed, 2 wrong usage or something could not be read.
    """


for subcommand in (erase, fsck, prove, show, verify):
    command.add_command(subcommand)
