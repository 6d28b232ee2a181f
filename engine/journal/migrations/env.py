"""What Alembic runs: the migrations, in the transaction and on the connection of its caller."""

from __future__ import annotations

from alembic import context

from engine.journal.schema import MIGRATION

context.configure(connection=context.config.attributes["connection"], version_table=MIGRATION.name)
context.run_migrations()
