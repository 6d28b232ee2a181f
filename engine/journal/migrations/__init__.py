"""The layout of a journal's tables as Alembic migrations, one file a version."""
