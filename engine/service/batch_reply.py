"""The answer to a message of a batch, item by item: columns, whole leases, errors by index."""

from __future__ import annotations

from walras.v1 import cluster_service_pb2 as pb

from engine.domain.errors import InvalidInput, Overloaded, WalrasError
from engine.market.events import LeasesStarted
from engine.market.many_leases import column, kinds_of, lease_ids_of
from engine.market.state import Lease, MarketState
from engine.service.batch_items import BatchItem
from engine.service.cluster_codec import started_lease_message, write_placement
from engine.service.status import CODES, cut_message, listed_violations

PLACEMENT_ROWS_MAX = 20_000


class BatchReply:
    """A DeployClustersResponse that grows. `count`: items answered so far."""

    def __init__(self, state: MarketState, *, whole: bool) -> None:
        self._state, self._whole = state, whole
        self.message, self.count = pb.DeployClustersResponse(), 0
        self._first, self._leases, self._rows = "", 0, 0

    def add_lease(self, lease: Lease) -> None:
        """The next item became a lease."""
        self._first, self._leases = self._first or lease.lease_id, self._leases + 1
        if self._whole:
            self.message.leases.append(started_lease_message(self._state.inventory, lease))
        else:
            shown = self._rows < PLACEMENT_ROWS_MAX
            self._add_row(lease.lease_id, lease.terms.request.gpu_count, lease.terms.total_micro_usd, lease)
            self.message.node_counts.append(len(lease.terms.nodes) // 4 if shown else 0)
            if shown:
                write_placement(self.message.placement, self._state.inventory, lease.terms)
                self._rows += len(lease.terms.nodes) // 4
        self.count += 1

    def add_many(self, event: LeasesStarted) -> int:
        """The next items became leases together; how many."""
        lease_ids, message = lease_ids_of(event), self.message
        self._first, self._leases = self._first or lease_ids[0], self._leases + event.count
        self.count += event.count
        if self._whole:
            leases, inventory = self._state.leases, self._state.inventory
            message.leases.extend(started_lease_message(inventory, leases[lease_id]) for lease_id in lease_ids)
            return event.count
        message.lease_ids.extend(lease_ids)
        sizes = column(event.size_of).tolist()
        message.gpu_counts.extend(event.sizes[size][0] for size in sizes)
        message.totals_micro_usd.extend(column(event.totals_micro_usd, "<i8").tolist())
        ends_at_us = [event.at_us + kind.request.priced_duration_s * 1_000_000 for kind in kinds_of(event)]
        message.end_times_us.extend(ends_at_us[size] for size in sizes)
        self._add_placements(event)
        return event.count

    def _add_placements(self, event: LeasesStarted) -> None:
        """Those of leases that begin before there are too many rows."""
        counts = column(event.node_counts)
        shown = self._rows + counts.cumsum() - counts < PLACEMENT_ROWS_MAX
        rows = int(counts[shown].sum())
        self.message.node_counts.extend((counts * shown).tolist())
        placement = self.message.placement
        placement.node_ids.extend(self._state.inventory.node_ids[column(event.nodes)[:rows]].tolist())
        placement.gpus.extend(column(event.gpus)[:rows].tolist())
        prices = column(event.prices_micro_usd_per_gpu_hour, "<i8")[:rows]
        placement.prices_micro_usd_per_gpu_hour.extend(prices.tolist())
        self._rows += rows

    def add_error(self, error: WalrasError, item: BatchItem) -> None:
        """The next item has no lease."""
        told = self.message.errors.add(
            index=self.count,
            code=CODES[type(error)].value[0],
            reason=error.reason,
            message=cut_message(error),
            metadata=error.metadata,
            retry_after_s=error.retry_after_s if isinstance(error, Overloaded) else 0.0,
        )
        if isinstance(error, InvalidInput):
            for each in listed_violations(error.within(item.name).violations).field_violations:
                told.violations.add(field=each.field, description=each.description)
        if self._whole:
            self.message.leases.add()
        else:
            self._add_row("", 0, 0, None)
            self.message.node_counts.append(0)
        self.count += 1

    def about(self) -> str | None:
        """What was leased, for the audit log; None if nothing was."""
        if not self._leases:
            return None
        return f"leases/{self._first}" + (f" and {self._leases - 1} more" if self._leases > 1 else "")

    def _add_row(self, lease_id: str, gpus: int, total_micro_usd: int, lease: Lease | None) -> None:
        message = self.message
        message.lease_ids.append(lease_id)
        message.gpu_counts.append(gpus)
        message.totals_micro_usd.append(total_micro_usd)
        ends_at_us = 0 if lease is None else lease.starts_at_us + lease.terms.duration_s * 1_000_000
        message.end_times_us.append(ends_at_us)
