'''Configuration of every process: flags over environment over file over default, all bad settings reported at once.

A process declares what can be set as a frozen dataclass. The docstring under a field is its help text:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class LedgerConfig:
        """One Merkle node."""

        listen: Address = Address("127.0.0.1", 8463)
        """Where producers send their leaves."""
        data: Path
        """Directory of the log. No default: must be set."""
        drain_timeout: Seconds = 30.0
        """How long open streams may take to end after SIGTERM."""
        max_batch: Annotated[int, Range(1, 4096)] = 512
        """Leaves in one batch."""
        witnesses: tuple[Address, ...] = ()
        """Nodes that cosign; empty: none."""
        ca_file: Path | None = None
        """PEM bundle; nothing: the system's CAs."""
        password: Secret = field(default="", repr=False)
        """Of the database. A secret has no flag: command lines are public."""

        def check(self) -> Iterable[Finding]:
            """What must fit together. Optional; yields every finding."""
            if self.witnesses and self.ca_file is None:
                yield Finding("ca_file", "is needed to speak to witnesses", also=("witnesses",))

    @click.command("ledger")
    @settings.options(LedgerConfig, prefix="AEGIS_LEDGER_")
    def command(config: LedgerConfig) -> None:
        ...

That gives `--listen`, `AEGIS_LEDGER_LISTEN` and the key `listen` of the file named by `--config` or
`AEGIS_LEDGER_CONFIG` (TOML or YAML, one flat table), and `--print-config`, which shows every value with its origin.
A list is a repeated flag, a comma-separated variable, or a list in the file. A bool is `--x` and `--no-x`.
Without click: `settings.load(LedgerConfig, prefix="AEGIS_LEDGER_", environ=os.environ, file=path).config`.

Types: see `settings.kinds`. A wrong value, an unknown key, an unknown `AEGIS_LEDGER_...` variable and a missing
setting all become a `Finding`; together they become one `SettingsError`, and exit status 2 under click.
'''

from settings.command import declared, options
from settings.errors import Finding, SettingsError
from settings.fields import Setting, settings_of
from settings.kinds import Address, ByteSize, Port, Range, Seconds, Secret
from settings.resolve import Resolved, load
from settings.show import show

__all__ = [
    "Address",
    "ByteSize",
    "Finding",
    "Port",
    "Range",
    "Resolved",
    "Seconds",
    "Secret",
    "Setting",
    "SettingsError",
    "declared",
    "load",
    "options",
    "settings_of",
    "show",
]
