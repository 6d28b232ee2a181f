"""Entries, their head, and the version of the layout."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Lay out an empty journal."""
    schema = op.create_table(
        "journal_schema", sa.Column("version", sa.Integer, nullable=False), sqlite_strict=True
    )
    op.create_table(
        "journal_entry",
        sa.Column("sequence", INT64, primary_key=True, autoincrement=False),
        sa.Column("recorded_at_us", INT64, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    head = op.create_table(
        "journal_head",
        sa.Column("sequence", INT64, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.bulk_insert(schema, [{"version": 1}])
    op.bulk_insert(head, [{"sequence": 0, "hash": bytes(32)}])
