"""The writer's epoch beside the head, who leads until when, and snapshots of the state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Entries stay as they are. A program that knows only version 1 refuses the journal from now on."""
    op.add_column("journal_head", sa.Column("epoch", INT64, nullable=False, server_default="0"))
    leader = op.create_table(
        "journal_leader",
        sa.Column("epoch", INT64, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("expires_at_us", INT64, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "journal_snapshot",
        sa.Column("sequence", INT64, primary_key=True, autoincrement=False),
        sa.Column("chain_hash", sa.LargeBinary, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("size_bytes", INT64, nullable=False),
        sa.Column("content_hash", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "journal_snapshot_part",
        sa.Column("sequence", INT64, primary_key=True, autoincrement=False),
        sa.Column("part", INT64, primary_key=True, autoincrement=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.bulk_insert(leader, [{"epoch": 0, "holder": "", "address": "", "expires_at_us": 0}])
    op.execute(sa.text("UPDATE journal_schema SET version = 2"))
