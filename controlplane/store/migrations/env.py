"""Runs on the connection that `PolicyStore.open` hands over, in its transaction."""

from alembic import context

from controlplane.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
