"""Who sees everything: what became durable, what every engine did, what every caller was told.

All checks of a run end here; what is violated goes to the kernel, which stops at once.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from engine.journal.chain import Entry
from engine.market.events import AnyEvent, decode
from engine.market.ledger.check import LedgerCheck
from engine.market.state import MarketState
from tests.simulation.calls import UNKNOWN, Call, Reply
from tests.simulation.differences import all_differences, differences
from tests.simulation.kernel import Kernel, Process
from tests.simulation.store import Disk
from tests.simulation.twin import Twin


class Witness:
    """`truth`: the market as it is durable; `acked_version`: the highest version that a caller was shown."""

    def __init__(self, kernel: Kernel, disk: Disk, truth: Twin, ledger: LedgerCheck) -> None:
        self.kernel, self.disk = kernel, disk
        self.base, self.truth, self.ledger = truth.clone(), truth, deepcopy(ledger)
        self.subjects: dict[tuple[str, str, str], str] = {}
        self.told: dict[str, tuple[object, ...]] = {}
        self.acked_version = truth.version
        self._events = list[AnyEvent]()
        disk.took_entries = self.take

    def take(self, entries: list[Entry], process: Process) -> None:
        """What became durable is followed by the twin and by the ledger's own check."""
        for entry in entries:
            event = decode(entry.payload)
            self._events.append(event)
            try:
                self.kernel.violations.extend(self.truth.follow(event))
                self.ledger.follow(entry.sequence, event)
            except (KeyError, IndexError, ValueError) as error:
                self.kernel.fault(
                    "4", f"event {entry.sequence}, {type(event).__name__}, follows from nothing: {error!r}"
                )
                return
        if self.truth.version not in process.batch_ends:
            self.kernel.fault("2", f"the batch around version {self.truth.version} is durable in part")
        for fault in self.ledger.faults:
            self.kernel.fault("6", str(fault))

    def twin_at(self, version: int) -> Twin:
        """The market at a durable version; one's own copy."""
        if version == self.truth.version:
            return self.truth.clone()
        twin = self.base.clone()
        for event in self._events:
            if twin.version >= version:
                break
            twin.follow(event)
        return twin

    def restored(self, state: MarketState, who: str) -> Twin:
        """A state that an engine begins with; the twin to follow it."""
        if state.version > self.truth.version:
            self.kernel.fault("4", f"{who} begins at {state.version}, durable is {self.truth.version}")
            return self.truth.clone()
        twin = self.twin_at(state.version)
        for told in all_differences(twin, state):
            self.kernel.fault("4", f"{who} was restored wrongly: {told}")
        return twin

    def changed(self, twin: Twin, state: MarketState, who: str) -> None:
        """An engine applied events that its twin has followed."""
        for told in differences(twin, state):
            self.kernel.fault("4", f"{who}: {told}")

    def leaves(self, call: Call, reply: Reply, acked_version: int, *, leads: bool) -> None:
        """A reply leaves an engine: all that it shows must be durable, and what was shown before, `acked_version`,
        must be in it."""
        if reply.error in UNKNOWN:
            return
        if reply.version > self.truth.version:
            self.kernel.fault(
                "4", f"{call} is answered from version {reply.version}, durable: {self.truth.version}"
            )
        if not reply.error and leads and reply.version < acked_version:
            self.kernel.fault("4", f"{call} is answered from {reply.version}, shown before: {acked_version}")
        if reply.error:
            self._check_refusal(call, reply, leads=leads)
        else:
            self._check_answer(call, reply)
        self.acked_version = max(self.acked_version, reply.version)

    def _check_answer(self, call: Call, reply: Reply) -> None:
        if call.key is not None:
            name = call.key.tenant_id, call.key.method, call.key.key
            if self.subjects.setdefault(name, reply.subject) != reply.subject:
                self.kernel.fault("4", f"key {name} was about {self.subjects[name]} and is about {reply.subject}")
            if name not in self.truth.keys:
                self.kernel.fault("4", f"{call} is acknowledged and its key is not durable")
            if self.truth.leased.get(name, reply.subject) != reply.subject:
                own = self.truth.leased[name]
                self.kernel.fault("4", f"{call} is told of {reply.subject}, its key began {own}")
        if call.is_foreign:
            self.kernel.fault("8", f"{call} was answered to a stranger")
        if reply.owner not in ("", call.tenant):
            self.kernel.fault("8", f"{call} shows what is of {reply.owner}")
        if reply.firm is not None and self.told.setdefault(reply.subject, reply.firm) != reply.firm:
            self.kernel.fault("5", f"{reply.subject} was {self.told[reply.subject]} and is {reply.firm}")
        if reply.balance is not None and reply.version == self.truth.version:
            own = self.truth.balances.get(f"tenants/{call.tenant}", 0)
            if own != reply.balance:
                self.kernel.fault("6", f"{call.tenant} is told {reply.balance} and has {own}")
        if reply.listed is not None and reply.version == self.truth.version:
            own_leases = [name for name, lease in self.truth.leases.items() if lease.tenant == call.tenant]
            if list(reply.listed) != own_leases:
                self.kernel.fault("8", f"{call.tenant} is shown {reply.listed} and has {own_leases}")

    def _check_refusal(self, call: Call, reply: Reply, *, leads: bool) -> None:
        if call.is_foreign and reply.error not in STRANGER_IS_TOLD:
            self.kernel.fault("8", f"{call} tells a stranger {reply.error}")
        if not leads:
            return
        if not call.is_foreign and reply.error == "NOT_FOUND" and call.subject in self.told:
            self.kernel.fault("4", f"{call.subject} was acknowledged and is gone")
        quote = self.truth.quotes.get(call.subject)
        if quote is None or call.is_foreign:
            return
        if reply.error == "QUOTE_EXPIRED" and reply.at_us < quote.expires_us:
            self.kernel.fault("5", f"{call.subject} is refused before its time is over")
        if reply.error == "QUOTE_USED" and not quote.lease:
            self.kernel.fault("5", f"{call.subject} is refused as used and was not")
        if reply.error in ("QUOTE_CAPACITY_GONE", "QUOTE_TERMS_GONE") and quote.holds and self._stands(quote):
            self.kernel.fault("5", f"{call.subject} holds GPUs and is refused: {reply.error}")

    def _stands(self, quote: Any) -> bool:
        """Whether nothing ever happened to the nodes of a quote."""
        return all(self.truth.rows[name] is self.base.rows.get(name) for name in quote.placement)


STRANGER_IS_TOLD = {"NOT_FOUND", "UNAVAILABLE", "NOT_LEADER", "OVERLOADED", "IDEMPOTENCY_KEY_REUSED"}
