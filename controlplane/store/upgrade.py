"""Brings the schema of a policy store up to date. Imports Alembic."""

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def upgrade(connection: Connection, current: str | None) -> bool:
    """In the transaction of `connection`, from the version `current` (None: there are no tables); False: not one of
    ours."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "controlplane.store:migrations")
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        return False
    command.upgrade(config, "head")
    return True
