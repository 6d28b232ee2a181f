"""Registrations may not slow the rest: suppliers' loads get a bounded share of the loop, one after another.

Deciding a load rebuilds the pools of the whole fleet, on the loop; at a million GPUs that takes 1.1 s of CPU.
After a supplier's load that held the loop for t, no supplier's load is decided for t / share, and that supplier
waits TURNS times as long: one that floods cannot take every turn. Operators load as they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.trust.quotas import limited

TURNS = 5
OPEN_MAX = 4
"""Loads of suppliers that are being received at once: each may collect LOAD_BYTES_MAX."""
RETRY_S = 1.0
ACCOUNTS_MAX = 10_000


class LoadPace:
    """When suppliers may load. `clock_s` is monotonic; `share`: of the loop's time, for all of them together."""

    def __init__(self, clock_s: Callable[[], float], share: float) -> None:
        self._clock_s, self._share = clock_s, share
        self._open: set[str] = set()
        self._free_at_s, self._own_at_s = 0.0, dict[str, float]()

    @contextmanager
    def receiving(self, account: str | None) -> Iterator[None]:
        """Around a load from its first byte; Overloaded if the account has one open or too many are."""
        if account is None:
            yield
            return
        if account in self._open or len(self._open) >= OPEN_MAX:
            raise limited("REGISTRATION_BUSY", "other loads are being received", RETRY_S)
        self.check(account)
        self._open.add(account)
        try:
            yield
        finally:
            self._open.discard(account)

    def check(self, account: str | None) -> None:
        """Overloaded if it is not the account's turn."""
        if account is None:
            return
        wait_s = max(self._free_at_s, self._own_at_s.get(account, 0.0)) - self._clock_s()
        if wait_s > 0:
            raise limited("REGISTRATION_BUSY", "fleets of suppliers are loaded one after another", wait_s)

    def done(self, account: str | None, held_loop_s: float) -> None:
        """A load was decided and held the loop for so long."""
        if account is None:
            return
        now_s = self._clock_s()
        self._free_at_s = now_s + held_loop_s / self._share
        self._own_at_s[account] = now_s + TURNS * held_loop_s / self._share
        if len(self._own_at_s) > ACCOUNTS_MAX:
            del self._own_at_s[next(iter(self._own_at_s))]
