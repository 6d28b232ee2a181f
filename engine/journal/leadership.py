"""Who of several replicas writes: a lease in the database, renewed by a heartbeat, and an epoch that only grows.

The lease says when another may take over; it alone protects nothing, since a process can be paused for longer
than any lease. What protects is the epoch: taking over raises it in the row of the journal's head, and each append
moves that row only `WHERE epoch = its own`, in the transaction that inserts the entries. So a leader that was
deposed without noticing writes nothing, whatever it believes, and no clock has a part in that.

The lease's times are the database's. The holder counts its own validity from before each renewal by its monotonic
clock, which runs on while a process is stopped: it therefore stops answering before another can have begun.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, literal_column, select, update
from sqlalchemy.exc import DBAPIError

from engine.domain.errors import NotLeader
from engine.journal.chain import Head
from engine.journal.database import Database, database_errors
from engine.journal.layout import prepare
from engine.journal.reader import opening_head
from engine.journal.schema import INT64, LEADER, NEXT_EPOCH

log = logging.getLogger("walras.journal")
LEASE_S = 3.0
RENEWALS_A_LEASE = 4
RELEASE_TIMEOUT_S = 5.0
"""If the database hangs for longer the lease runs out instead."""

_NOW_US = literal_column("(extract(epoch from clock_timestamp()) * 1000000)::bigint", INT64)
_TAKE = (
    update(LEADER)
    .where(LEADER.c.expires_at_us < _NOW_US)
    .values(
        epoch=bindparam("new_epoch"),
        holder=bindparam("new_holder"),
        address=bindparam("new_address"),
        expires_at_us=_NOW_US + bindparam("lease_us", type_=INT64),
    )
)
_RENEW = (
    update(LEADER)
    .where(LEADER.c.epoch == bindparam("own_epoch"))
    .values(expires_at_us=_NOW_US + bindparam("lease_us", type_=INT64))
)
_LEADER = select(LEADER.c.epoch, LEADER.c.holder, LEADER.c.address, LEADER.c.expires_at_us >= _NOW_US)


class Leader(NamedTuple):
    """Who leads, or led last. `address`: where it can be called; `is_alive`: its lease has not run out."""

    epoch: int
    holder: str
    address: str
    is_alive: bool


def leader_of(connection: Connection) -> Leader:
    """Who leads now."""
    return Leader(*connection.execute(_LEADER).one())


class Leadership:
    """Held from `take` until `release`, or until another took over after a lease without renewal."""

    def __init__(self, database: Database, epoch: int, head: Head, lease_s: float, since_s: float) -> None:
        """For `take`. `since_s`: monotonic time before the lease was written."""
        self.epoch, self.head = epoch, head
        self._database, self._lease_s = database, lease_s
        self._valid_until_s = since_s + lease_s
        self.is_lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_ended, name="walras-leader", daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, database: Database, address: str, lease_s: float = LEASE_S) -> Leadership:
        """Lead the journal from now on, laying it out if it is new; `NotLeader` if someone leads it already."""
        since_s = time.monotonic()
        with database_errors(database), database.writing().begin() as connection:
            epoch, head = taken(database, connection, address, lease_s)
            weakness = database.weakness(connection)
        if weakness:
            log.warning(weakness)
        return cls(database, epoch, head, lease_s, since_s)

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have begun to lead."""
        return not self.is_lost and time.monotonic() < self._valid_until_s

    def release(self) -> None:
        """Let another take over at once. Can be called again."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join(RELEASE_TIMEOUT_S)
        if not self.is_lost and not self._thread.is_alive():
            self._renew(0.0)
        self._valid_until_s = 0.0

    def _renew_until_ended(self) -> None:
        while not self.is_lost and not self._ended.wait(self._lease_s / RENEWALS_A_LEASE):
            self._renew(self._lease_s)

    def _renew(self, lease_s: float) -> None:
        """Write the lease anew; without the standby, as it must not end because that is away."""
        since_s = time.monotonic()
        values = {"own_epoch": self.epoch, "lease_us": round(lease_s * 1e6) - 1}
        try:
            with self._database.writing().begin() as connection:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = local")
                renewed = connection.execute(_RENEW, values).rowcount
        except DBAPIError as error:
            log.warning("the lease could not be renewed: %s", str(error.orig).strip())
            return
        self._valid_until_s = since_s + lease_s
        self.is_lost = renewed != 1


def taken(database: Database, connection: Connection, address: str, lease_s: float) -> tuple[int, Head]:
    """(the epoch of a new leader, the head it begins at), in a transaction that lays the journal out if it is new.

    Until it ends, nobody else leads or writes; a lease of 0 s is over with it. `NotLeader` if there is one.
    """
    database.begin_layout(connection)
    prepare(connection, database.name)
    leader = leader_of(connection)
    if leader.is_alive:
        raise not_leader(leader)
    epoch = int(connection.execute(NEXT_EPOCH).scalar_one())
    head = opening_head(connection)
    holder, lease_us = f"{socket.gethostname()} process {os.getpid()}", round(lease_s * 1e6)
    values = {"new_epoch": epoch, "new_holder": holder, "new_address": address, "lease_us": lease_us}
    if connection.execute(_TAKE, values).rowcount != 1:
        raise not_leader(leader_of(connection))
    return epoch, head


def not_leader(leader: Leader) -> NotLeader:
    """The error that says who leads instead."""
    if not leader.is_alive:
        return NotLeader("no engine leads this journal at the moment; try again", "")
    return NotLeader(f"another engine leads this journal ({leader.holder})", leader.address)
