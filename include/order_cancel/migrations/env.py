"""Alembic's entry: migrates over the connection, and in the transaction, that the journal hands it."""

from alembic import context

from include.order_cancel.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
context.run_migrations()
