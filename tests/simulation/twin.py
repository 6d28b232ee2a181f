"""The market followed from its events alone, with dictionaries: the independent checker of DESIGN's section 7.

It shares nothing with `apply`: no arrays, no pools, no state of the engine. `follow` takes in one event and tells
what is wrong with it. Money it only adds up; whether amounts are right is the ledger check's to say
(`engine.market.ledger.check`), which follows every durable event too.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields

import numpy as np

from engine.market.events import (
    AnyEvent,
    FleetLoaded,
    LeaseEnded,
    LeaseExtended,
    LeaseMoved,
    LeaseReclaiming,
    LeaseShrunk,
    LeaseSpared,
    LeasesStarted,
    LeaseStarted,
    NodesHeard,
    NodesStateSet,
    NodeStateSet,
    OrderEnded,
    OrderFilled,
    OrderPlaced,
    PlanApplied,
    PricesPosted,
    PricesPublished,
    QuoteEnded,
    QuoteIssued,
)
from engine.market.ledger.entries import Money
from engine.market.many_leases import each_of
from tests.simulation.fleet_twin import FleetTwin
from tests.simulation.things import Lease, Order, Quote, shrunk

SECOND_US = 1_000_000
OWN_FAULT = {"NODE_LOST", "SUPPLIER_DRAINED", "OUTBID", "DISPLACED"}
READY, DRAINING, DOWN = "READY", "DRAINING", "DOWN"
NEVER_US = 2**62


@dataclass
class Twin(FleetTwin):
    leases: dict[str, Lease] = field(default_factory=dict)
    running: dict[str, None] = field(default_factory=dict)
    quotes: dict[str, Quote] = field(default_factory=dict)
    holding: dict[str, None] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    waiting: dict[str, None] = field(default_factory=dict)
    keys: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    leased: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """The lease that began under a key."""
    plans: dict[str, None] = field(default_factory=dict)
    heard: dict[int, None] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)
    at_us: int = 0

    def clone(self) -> Twin:
        """A copy that goes its own way."""
        made = Twin(**{each.name: copy(getattr(self, each.name)) for each in fields(self)})
        for name in ("leases", "quotes", "orders"):
            setattr(made, name, {key: copy(one) for key, one in getattr(self, name).items()})
        return made

    def follow(self, event: AnyEvent) -> list[str]:
        """Take in one event; what it violates, each with its law of DESIGN section 7."""
        if isinstance(event, LeasesStarted):
            return [told for each in each_of(event) for told in self.follow(each)]
        self.found = []
        self.version += 1
        if event.at_us < self.at_us:
            self._fault(4, "time goes back from one event to the next")
        self.at_us = event.at_us
        if event.key is not None:
            self._use_key(event)
        self._take_in(event)
        if event.money is not None:
            self._book(event.money)
        return self.found

    def _use_key(self, event: AnyEvent) -> None:
        assert event.key is not None
        name = event.key.tenant_id, event.key.method, event.key.key
        if name in self.keys:
            self._fault(4, f"key {name} has a second effect, {type(event).__name__}")
        self.keys[name] = event.key.body_hash
        if isinstance(event, LeaseStarted):
            self.leased[name] = event.lease_id
        owner = getattr(event, "tenant_id", None) or self._owner(event)
        if (
            owner is not None
            and owner != event.key.tenant_id
            and event.key.tenant_id not in ("operator", "planner")
        ):
            self._fault(8, f"{type(event).__name__} of {owner} was caused by {event.key.tenant_id}")

    def _owner(self, event: AnyEvent) -> str | None:
        for name, things in (("lease_id", self.leases), ("quote_id", self.quotes), ("order_id", self.orders)):
            if hasattr(event, name) and getattr(event, name) in things:
                return str(things[getattr(event, name)].tenant)
        return None

    def _take_in(self, event: AnyEvent) -> None:
        match event:
            case FleetLoaded():
                self._load(event)
            case PricesPosted():
                self._post()
            case PricesPublished():
                self._publish(event)
            case NodeStateSet():
                self._set_state([event.node], event.state)
            case NodesStateSet():
                self._set_state(np.frombuffer(event.nodes, "<i4").tolist(), event.state, event.deadline_us)
            case NodesHeard():
                self.heard |= dict.fromkeys(np.frombuffer(event.nodes, "<i4").tolist())
            case QuoteIssued():
                self._quote(event)
            case QuoteEnded():
                self._end_quote(event)
            case LeaseStarted():
                self._start(event)
            case LeaseMoved():
                self._move(event)
            case LeaseShrunk():
                self._shrink(event)
            case LeaseExtended():
                lease = self._lease(event.lease_id)
                if event.ends_at_us != lease.ends_us + event.duration_s * SECOND_US:
                    self._fault(4, "an extension does not begin at the end")
                lease.ends_us = event.ends_at_us
                lease.epoch += 1
            case LeaseReclaiming():
                self._notice(event)
            case LeaseSpared():
                self._spare(event)
            case LeaseEnded():
                self._end(event)
            case OrderPlaced():
                limit = event.request.max_price_micro_usd_per_gpu_hour
                assert limit is not None
                self.orders[event.order_id] = Order(event.tenant_id, event.expires_at_us, limit)
                self.waiting[event.order_id] = None
            case OrderFilled():
                self._fill(event)
            case OrderEnded():
                self._end_order(event)
            case PlanApplied():
                if event.plan_id in self.plans:
                    self._fault(4, f"{event.plan_id} is applied twice")
                self.plans[event.plan_id] = None

    def _quote(self, event: QuoteIssued) -> None:
        placement = self._placement(event.terms.nodes, event.terms.gpus)
        self._check_new(event.terms, placement, {}, priced=True, planned=False)
        made = Quote(event.tenant_id, event.terms, placement, event.expires_at_us, event.hold)
        self.quotes[event.quote_id] = made
        if event.hold:
            self.holding[event.quote_id] = None
            self.held.update(placement)

    def _give_back(self, quote_id: str) -> None:
        quote = self.quotes[quote_id]
        if quote.holds:
            self.held.subtract(quote.placement)
            del self.holding[quote_id]
        quote.is_open = False

    def _end_quote(self, event: QuoteEnded) -> None:
        quote = self.quotes[event.quote_id]
        if not quote.is_open:
            self._fault(5, f"{event.quote_id} ends a second time")
        if event.reason == "EXPIRED" and event.at_us < quote.expires_us:
            self._fault(5, f"{event.quote_id} expires before its time")
        self._give_back(event.quote_id)
        quote.reason = event.reason

    def _use_quote(self, event: LeaseStarted) -> None:
        quote = self.quotes[event.quote_id]
        if not quote.is_open:
            self._fault(5, f"{event.quote_id} is used after it was over")
        if event.at_us >= quote.expires_us:
            self._fault(5, f"{event.quote_id} is used after it expired")
        if quote.tenant != event.tenant_id:
            self._fault(8, f"{event.quote_id} is used by {event.tenant_id}")
        if quote.terms != event.terms:
            self._fault(5, f"{event.quote_id} is not honoured as it was given")
        self._give_back(event.quote_id)
        quote.lease = event.lease_id

    def _start(self, event: LeaseStarted) -> None:
        terms = event.terms
        if event.lease_id in self.leases:
            self._fault(1, f"{event.lease_id} starts twice")
        if event.quote_id:
            self._use_quote(event)
        placement = self._placement(terms.nodes, terms.gpus)
        self._check_new(terms, placement, {}, priced=not event.quote_id, planned=bool(terms.plan_id))
        if event.ends_at_us != event.at_us + terms.duration_s * SECOND_US:
            self._fault(5, f"{event.lease_id} is sold for another time than its terms say")
        total = terms.total_micro_usd
        self.leases[event.lease_id] = Lease(
            event.tenant_id, terms, placement, event.at_us, event.ends_at_us, event.quote_id, total
        )
        self.running[event.lease_id] = None
        self.taken.update(placement)

    def _lease(self, lease_id: str) -> Lease:
        lease = self.leases[lease_id]
        if not lease.is_running:
            self._fault(5, f"{lease_id} changes after its end")
        return lease

    def _move(self, event: LeaseMoved) -> None:
        lease = self._lease(event.lease_id)
        placement = self._placement(event.nodes, event.gpus)
        self._check_new(lease.terms, placement, lease.placement, priced=False, planned=False)
        gpus = np.frombuffer(event.gpus, "<i4").astype(np.int64)
        if (
            int(gpus @ np.frombuffer(event.prices_micro_usd_per_gpu_hour, "<i8"))
            > lease.terms.rate_micro_usd_per_hour
        ):
            self._fault(3, f"{event.lease_id} goes on above what its tenant pays")
        self.taken.subtract(lease.placement)
        self.taken.update(placement)
        lease.placement = placement
        lease.epoch += 1

    def _notice(self, event: LeaseReclaiming) -> None:
        lease, until_us = self._lease(event.lease_id), self._until_us(event.lease_id)
        if event.reason != "SUPPLIER_DRAINED":
            self._fault(3, "nothing interruptible runs here")
        if event.reclaim_at_us != until_us or not event.at_us < until_us < lease.ends_us:
            self._fault(3, f"{event.lease_id} has notice for {event.reclaim_at_us}, may stay until {until_us}")
        if lease.notice_us == event.reclaim_at_us:
            self._fault(3, f"{event.lease_id} has the same notice twice")
        lease.notice_us = event.reclaim_at_us
        lease.epoch += 1

    def _spare(self, event: LeaseSpared) -> None:
        lease = self._lease(event.lease_id)
        if not lease.notice_us or self._until_us(event.lease_id) < lease.ends_us:
            self._fault(3, f"{event.lease_id} is spared, and had notice for {lease.notice_us}")
        lease.notice_us = 0
        lease.epoch += 1

    def _until_us(self, lease_id: str) -> int:
        """Until when a lease may stay where it is."""
        return min(self.until_us.get(name, NEVER_US) for name in self.leases[lease_id].placement)

    def _shrink(self, event: LeaseShrunk) -> None:
        lease = self._lease(event.lease_id)
        kept = self._placement(event.nodes, event.gpus)
        size = lease.terms.request.gpus_per_node
        if sum(kept.values()) != event.gpu_count or any(gpus % size for gpus in kept.values()):
            self._fault(2, f"{event.lease_id} keeps a part of a replica")
        if any(gpus > lease.placement.get(name, 0) for name, gpus in kept.items()):
            self._fault(1, f"{event.lease_id} keeps more than it had")
        self.taken.subtract(lease.placement)
        self.taken.update(kept)
        lease.placement, lease.back = kept, lease.back + event.refund_micro_usd
        lease.terms = shrunk(lease.terms, event)
        lease.epoch += 1

    def _end(self, event: LeaseEnded) -> None:
        lease = self._lease(event.lease_id)
        if event.reason == "COMPLETED" and (event.ended_at_us != lease.ends_us or event.at_us < lease.ends_us):
            self._fault(5, f"{event.lease_id} is completed at another time than its end")
        if event.reason in OWN_FAULT and event.reason == "NODE_LOST" and not self._is_down(lease):
            self._fault(3, f"{event.lease_id} is lost with all its nodes up")
        if event.reason == "SUPPLIER_DRAINED" and event.ended_at_us < self._until_us(event.lease_id):
            self._fault(3, f"{event.lease_id} has to go before its notice is over")
        self.taken.subtract(lease.placement)
        lease.is_running, lease.reason, lease.ends_us = False, event.reason, event.ended_at_us
        lease.back += event.refund_micro_usd
        self.running.pop(event.lease_id, None)

    def _is_down(self, lease: Lease) -> bool:
        return any(self.rows[name]["state"] == DOWN for name in lease.placement)

    def _fill(self, event: OrderFilled) -> None:
        order, lease = self.orders[event.order_id], self.leases[event.lease_id]
        if order.state != "OPEN":
            self._fault(5, f"{event.order_id} is filled and was {order.state}")
        if order.tenant != lease.tenant:
            self._fault(8, f"{event.order_id} is filled for another tenant")
        if lease.terms.rate_micro_usd_per_hour > order.limit * lease.terms.request.gpu_count:
            self._fault(3, f"{event.order_id} is filled above its limit")
        if event.at_us >= order.expires_us:
            self._fault(5, f"{event.order_id} is filled after it expired")
        order.state, order.lease = "FILLED", event.lease_id
        self.waiting.pop(event.order_id, None)

    def _end_order(self, event: OrderEnded) -> None:
        order = self.orders[event.order_id]
        if order.state != "OPEN":
            self._fault(5, f"{event.order_id} ends and was {order.state}")
        if event.reason == "EXPIRED" and not event.detail and event.at_us < order.expires_us:
            self._fault(5, f"{event.order_id} expires before its time")
        order.state = event.reason
        self.waiting.pop(event.order_id, None)

    def _book(self, money: Money) -> None:
        for entry in money.entries:
            if sum(amount for _, amount in entry.legs):
                self._fault(6, f"{entry.kind} of {entry.subject} does not sum to zero")
            for account, amount in entry.legs:
                balance = self.balances.get(account, 0) + amount
                self.balances[account] = balance
                if balance < 0 and not account.startswith(("outside/", "dev-credits/")):
                    self._fault(6, f"{account} stands at {balance}")
        for span in money.spans:
            self.balances.setdefault(f"escrows/{span.lease_id}", 0)
        for lease_id in money.closed:
            if left := self.balances.pop(f"escrows/{lease_id}", 0):
                self._fault(6, f"{left} are left of the escrow of {lease_id}")

    def overdue(self, now_us: int) -> str | None:
        """What should have ended by now and has not."""
        late = [name for name in self.running if self.leases[name].ends_us <= now_us]
        late += [name for name in self.holding if self.quotes[name].expires_us <= now_us]
        late += [name for name in self.waiting if self.orders[name].expires_us <= now_us]
        return late[0] if late else None
