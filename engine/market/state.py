"""The state of the market: what replaying the events gives. Only `apply` changes it.

Ended leases, expired quotes and the idempotency keys behind them are kept for `KEPT_US` and then forgotten,
driven by the times inside events, so that a replay forgets the same.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from dataclasses import dataclass, field

import msgspec
import numpy as np

from engine.market.events import Key, Terms
from engine.market.inventory import Inventory

KEPT_US = 24 * 3_600 * 1_000_000
ACTIVE, ENDED = "ACTIVE", "ENDED"


@dataclass(slots=True)
class Lease:
    """GPUs committed to a tenant. `ends_at_us`: agreed end while active, real end once ended."""

    lease_id: str
    tenant_id: str
    terms: Terms
    starts_at_us: int
    ends_at_us: int
    quote_id: str
    state: str = ACTIVE
    end_reason: str = ""


@dataclass(slots=True)
class Quote:
    """A firm price until `expires_at_us`; usable once, by its tenant."""

    quote_id: str
    tenant_id: str
    terms: Terms
    created_at_us: int
    expires_at_us: int
    lease_id: str = ""


@dataclass(slots=True)
class Load:
    """What a fleet load did. The last three are of the whole fleet, once its prices were posted."""

    nodes_added: int
    nodes_updated: int
    rtt_pairs: int
    gpus_registered: int = 0
    pools: int = 0
    fleet_version: int = 0


@dataclass(slots=True)
class MarketState:
    """All that the engine knows. `version` counts events; `fleet_version` changes of nodes and prices."""

    inventory: Inventory = field(default_factory=Inventory.empty)
    leases: dict[str, Lease] = field(default_factory=dict)
    leases_of: dict[str, dict[str, None]] = field(default_factory=dict)
    quotes: dict[str, Quote] = field(default_factory=dict)
    loads: dict[str, Load] = field(default_factory=dict)
    price_sources: list[str] = field(default_factory=list)
    subjects: dict[tuple[str, str, str], tuple[bytes, str]] = field(default_factory=dict)
    """(tenant, method, key) → (body hash, id of the object that the first call made)."""
    version: int = 0
    fleet_version: int = 0
    active: int = 0
    due: list[tuple[int, str]] = field(default_factory=list)
    """Heap of (agreed end, lease); entries of leases that ended early are skipped when met."""
    forgettable: deque[tuple[int, str, str]] = field(default_factory=deque)
    """(since, kind, id) of ended leases, issued quotes and used keys, roughly by age."""

    def remember(self, key: Key | None, subject: str, at_us: int) -> None:
        """Bind an idempotency key to the object that its call made."""
        if key is not None:
            self.subjects[key.tenant_id, key.method, key.key] = (key.body_hash, subject)
            self.forgettable.append((at_us, "key", "\x00".join((key.tenant_id, key.method, key.key))))

    def forget(self, now_us: int) -> None:
        """Drop what has been over for longer than KEPT_US."""
        while self.forgettable and self.forgettable[0][0] < now_us - KEPT_US:
            _, kind, name = self.forgettable.popleft()
            if kind == "lease":
                lease = self.leases.pop(name)
                del self.leases_of[lease.tenant_id][name]
            elif kind == "quote":
                del self.quotes[name]
            else:
                self._forget_key(name, now_us)

    def _forget_key(self, name: str, now_us: int) -> None:
        tenant_id, method, key = name.split("\x00")
        _, subject = self.subjects[tenant_id, method, key]
        if subject in self.leases:  # keys live as long as their lease is known
            self.forgettable.append((now_us, "key", name))
        else:
            del self.subjects[tenant_id, method, key]

    def next_due(self) -> tuple[int, str] | None:
        """(agreed end, lease) of the active lease that ends first."""
        while self.due and self.leases.get(self.due[0][1], _GONE).state != ACTIVE:
            heapq.heappop(self.due)
        return self.due[0] if self.due else None

    def hash(self) -> str:
        """SHA-256 over everything a reply can depend on, in a canonical order."""
        digest = hashlib.sha256()
        inventory = self.inventory
        arrays = [inventory.leased, inventory.state, inventory.outside, inventory.posted]
        arrays += [getattr(inventory.nodes, name) for name in inventory.nodes.__slots__]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        encode = msgspec.msgpack.Encoder(order="deterministic").encode
        vocabularies = (inventory.models, inventory.regions, inventory.suppliers, inventory.sites.names)
        names = [vocabulary.names for vocabulary in vocabularies]
        facts = (
            self.version,
            self.fleet_version,
            inventory.price_snapshot_id,
            self.price_sources,
            inventory.node_ids.tolist(),
            names,
            sorted(self.leases.items()),
            sorted(self.quotes.items()),
            sorted(self.loads.items()),
            sorted(self.subjects.items()),
            inventory.rtt.rows(),
        )
        for fact in facts:
            digest.update(encode(fact))
        return digest.hexdigest()


_GONE = Lease("", "", None, 0, 0, "", state=ENDED)  # type: ignore[arg-type]
