"""PostgreSQL by psycopg: a journal that replicas share.

No call hangs: connecting, statements and waiting for locks have a limit, a peer that is gone is noticed by TCP.
What no setting limits is the wait of a COMMIT for a synchronous standby: that one must not be cancelled either,
since the server would then commit without the standby. `Writer.refuse_stalled` refuses callers meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from engine.domain.errors import InvalidInput, Unavailable, Violation, WalrasError
from engine.journal.database import WARNING
from engine.journal.errors import CorruptJournal
from engine.journal.layout import has_tables

DRIVER = "postgresql+psycopg"
CONNECT_TIMEOUT_S = 3
LIMITS = ("statement_timeout = 30000", "lock_timeout = 3000")
"""Milliseconds, set on every connection."""
WRITER_SETTINGS = (
    "idle_in_transaction_session_timeout = 2000",
    "tcp_keepalives_idle = 2",
    "tcp_keepalives_interval = 1",
    "tcp_keepalives_count = 3",
)
"""A writer that was paused or cut off in the middle of a transaction must not keep its successor out."""
TCP = {
    "tcp_user_timeout": 5_000,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
}
LAYOUT_LOCK = 0x77616C726173
"""Key of the advisory lock under which a database is laid out."""
NO_PRIVILEGE = "42501"
NO_STANDBY = "has no synchronous standby: its failover may lose what was acknowledged"


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A `Database` behind a `postgresql://` URL; what stands in its query goes to libpq."""

    url: URL
    is_shared: bool = True

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def preparing(self) -> Engine:
        """See `Database`."""
        return self._engine("READ COMMITTED")

    def writing(self) -> Engine:
        """See `Database`. A COMMIT waits for the disk, and for the synchronous standbys if there are any."""
        return self._engine("READ COMMITTED", "synchronous_commit = on", *WRITER_SETTINGS)

    def reading(self) -> Engine:
        """See `Database`. Rows are streamed."""
        engine = self._engine("REPEATABLE READ", "default_transaction_read_only = on")
        return engine.execution_options(stream_results=True, max_row_buffer=100)

    def check_there(self) -> None:
        """See `Database`. Connecting tells."""

    def begin_layout(self, connection: Connection) -> None:
        """See `Database`."""
        if not has_tables(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LAYOUT_LOCK})

    def translated(self, error: Exception, reading_sequence: int = 1) -> WalrasError:
        """See `Database`."""
        said = str(error.orig if isinstance(error, DBAPIError) else error).strip()
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
        if isinstance(error, OperationalError | InterfaceError):
            return Unavailable(f"{self.name}: {said}")
        if state == NO_PRIVILEGE:
            return InvalidInput([Violation(self.name, said)])
        return CorruptJournal(reading_sequence, f"{self.name}: {said}")

    def weakness(self, connection: Connection) -> str:
        """See `Database`."""
        has_standby = connection.exec_driver_sql("SHOW synchronous_standby_names").scalar_one()
        return "" if has_standby else f"{self.name} {NO_STANDBY}"

    def _engine(self, isolation: str, *settings: str) -> Engine:
        given = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "walras", **TCP}
        try:
            engine = create_engine(
                self.url.set(drivername=DRIVER),
                poolclass=NullPool,
                hide_parameters=True,
                isolation_level=isolation,
                connect_args={name: value for name, value in given.items() if name not in self.url.query},
            )
        except ImportError:
            problem = "needs PostgreSQL's driver: pip install 'walras[postgres]'"
            raise InvalidInput([Violation("database-url", problem)]) from None

        @event.listens_for(engine, "connect")
        def set_limits(connection: Any, record: Any) -> None:
            connection.add_notice_handler(lambda notice: _keep_warning(record.info, notice))
            connection.execute("; ".join(f"SET {setting}" for setting in (*LIMITS, *settings)))
            connection.commit()

        return engine


def _keep_warning(info: dict[str, str], notice: Any) -> None:
    if notice.severity_nonlocalized == "WARNING":
        info[WARNING] = str(notice.message_primary)
