"""Who stands where while a plan is searched: flat arrays that kernels change in place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import Arrays
from solvers.planning.candidates import Free
from solvers.planning.moves import Placed
from solvers.planning.places import blocks
from solvers.planning.prepare import Prepared
from solvers.planning.problem import NO_CARD
from solvers.planning.search import put, take_out

Int = NDArray[np.int64]


class Assignment:
    """A plan in the making, feasible at any time.

    `state`, as kernels take it: first place of each gang (gangs + 1,), then per place: slot, replicas; places in
    use (gangs,); free GPUs (slots,); first host entry (slots + 1,), hosts, and their number (slots,); what is left
    of CPU, memory and shared cards, as `Prepared.room`; of parts their card (gangs,), the first on each slot
    (slots,) and the next on the same slot (gangs,). All after the hosts' numbers are empty if no gang has needs.
    """

    def __init__(self, prepared: Prepared) -> None:
        gangs, capacity = prepared.problem.gangs, prepared.capacity
        first = np.append(0, np.cumsum(gangs.replicas))
        places = int(first[-1])
        self.prepared = prepared
        self._walk: Arrays = (None, None, np.zeros((capacity.size, 0), dtype=np.int32), *blocks(0))
        self.state: Arrays = (
            first,
            np.zeros(places, dtype=np.int64),
            np.zeros(places, dtype=np.int64),
            np.zeros(gangs.replicas.size, dtype=np.int64),
            capacity.copy(),
            np.append(0, np.cumsum(capacity)),
            np.zeros(int(capacity.sum()), dtype=np.int64),
            np.zeros(capacity.size, dtype=np.int64),
            *(array.copy() for array in prepared.room[1:]),
            *self._no_parts(),
        )

    def _no_parts(self) -> Arrays:
        gangs = self.prepared.problem.gangs
        sizes = (
            (0, 0, 0) if gangs.needs is None else (gangs.gpus.size, self.prepared.capacity.size, gangs.gpus.size)
        )
        return tuple(np.full(size, -1, dtype=np.int64) for size in sizes)

    @property
    def card(self) -> Int | None:
        """The card of each part that is placed, (gangs,); None if there are no needs."""
        return self.state[11] if self.state[11].size else None

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Which gangs have their open part placed, (gangs,); settled gangs are not."""
        served: NDArray[np.bool_] = self.state[3] > 0
        return served

    @property
    def free(self) -> Int:
        """Free GPUs of each slot."""
        free: Int = self.state[4]
        return free

    def keep_what_runs(self) -> None:
        """Place every gang that could stay as a whole where it runs, unless it may stop and is not worth its
        asks.
        """
        prepared = self.prepared
        first, slots, replicas = prepared.gangs[4:7]
        need = prepared.problem.gangs.replicas
        whole = np.add.reduceat(np.append(replicas, 0), np.minimum(first[:-1], replicas.size))
        whole[np.diff(first) == 0] = 0
        for gang in np.flatnonzero((whole == need) & (need > 0)):
            rows = slice(first[gang], first[gang + 1])
            cost = self.put(int(gang), slots[rows], replicas[rows])
            if cost >= prepared.value[gang] and not prepared.problem.gangs.must_serve[gang]:
                take_out(int(gang), prepared.gangs, self.state, self._walk, prepared.ask)

    def put(self, gang: int, slots: Int, replicas: Int, card: int = NO_CARD) -> int:
        """Place one gang that is not placed, a part on a card, or on the best; its cost in asks and moves."""
        return put(
            gang, self.prepared.gangs, slots.size, slots, replicas, card, self.state, self._walk, self.prepared.ask
        )

    def entries(self) -> tuple[Int, Int, Int]:
        """(gang, slot, replicas) of everything placed, by gang."""
        first, slot, take, placed = self.state[:4]
        gang = np.repeat(np.arange(placed.size), placed)
        at = np.repeat(first[:-1] - np.append(0, np.cumsum(placed)[:-1]), placed) + np.arange(gang.size)
        return gang, slot[at], take[at]

    def rows(self) -> Placed:
        """The plan, pinned rows of served gangs included."""
        prepared = self.prepared
        standing, running = prepared.standing, prepared.problem.running
        gang, slot, take = self.entries()
        pinned = standing.pinned
        stays = self.placed[running.request[pinned]] | ~standing.open[running.request[pinned]]
        pinned = pinned[stays]
        request = np.concatenate([gang, running.request[pinned]])
        node = np.concatenate([prepared.rows.node[slot], running.node[pinned]])
        gpus = np.concatenate([take * prepared.problem.gangs.gpus_per_replica[gang], running.gpus[pinned]])
        card = None
        if self.card is not None:
            is_part = prepared.problem.gangs.is_part(gang)
            present = np.full(pinned.size, NO_CARD) if running.card is None else running.card[pinned]
            card = np.concatenate([np.where(is_part, self.card[gang], NO_CARD), present])
        order = np.lexsort((node, request))
        request, node, gpus = request[order], node[order], gpus[order]
        fresh = (np.diff(request, prepend=-1) != 0) | (np.diff(node, prepend=-1) != 0)
        starts = np.flatnonzero(fresh)
        return Placed(
            request[fresh],
            node[fresh],
            np.add.reduceat(gpus, starts) if starts.size else gpus,
            None if card is None else card[order][fresh],
        )

    def welfare(self) -> int:
        """W of the plan as it stands, micro-USD per hour: exact integers."""
        prepared = self.prepared
        gang, slot, take = self.entries()
        gpus = take * prepared.problem.gangs.gpus_per_replica[gang]
        value = prepared.value.astype(np.int64)
        surcharge = prepared.surcharge[self.placed].sum()
        return int(
            prepared.constant
            + value[self.placed].sum()
            - surcharge
            - prepared.problem.gangs.money(gang, gpus, prepared.ask[slot]).sum()
            + self._spared(gang, slot, gpus)
        )

    def _spared(self, gang: Int, slot: Int, gpus: Int) -> int:
        """What is not paid for moves, as GPUs stay on the node where they run."""
        prepared = self.prepared
        first, kept_slot, kept_replicas = prepared.gangs[4:7]
        kept_gang = np.repeat(np.arange(first.size - 1), np.diff(first))
        if kept_gang.size == 0:
            return 0
        width = prepared.rows.node.size
        kept_key, key = kept_gang * width + kept_slot, gang * width + slot
        order = np.argsort(kept_key)
        at = np.minimum(np.searchsorted(kept_key[order], key), kept_key.size - 1)
        same = kept_key[order][at] == key
        kept_gpus = (kept_replicas * prepared.problem.gangs.gpus_per_replica[kept_gang])[order]
        stayed = np.minimum(gpus, kept_gpus[at])[same]
        move_cost = np.full(stayed.size, prepared.problem.move_cost_micro_usd)
        return int(prepared.problem.gangs.money(gang[same], stayed, move_cost).sum())

    def copied(self) -> tuple[int, Arrays]:
        """(welfare, state): to come back to."""
        return self.welfare(), tuple(array.copy() for array in self.state)

    def restore_if_better(self, copied: tuple[int, Arrays]) -> None:
        """Go back to an earlier state if it was worth more."""
        welfare, state = copied
        if self.welfare() < welfare:
            for array, earlier in zip(self.state, state, strict=True):
                array[:] = earlier

    def without(self, gangs: Int) -> tuple[Free, Placed]:
        """(what is free if some gangs were taken out, where those gangs stand now, pinned rows left out)."""
        prepared = self.prepared
        gang, slot, take = self.entries()
        mine = np.isin(gang, gangs)
        gang, slot, take = gang[mine], slot[mine], take[mine]
        gpus = take * prepared.problem.gangs.gpus_per_replica[gang]
        placed = Placed(gang, prepared.rows.node[slot], gpus)
        if self.card is not None:
            card = np.where(prepared.problem.gangs.is_part(gang), self.card[gang], NO_CARD)
            return self._left_without(np.unique(gang)), placed._replace(card=card)
        free = np.zeros(prepared.problem.capacity.size, dtype=np.int64)
        free[prepared.rows.node] = self.free
        np.add.at(free, prepared.rows.node[slot], gpus)
        return Free(free), placed

    def _left_without(self, gangs: Int) -> Free:
        """What is left if some placed gangs were taken out."""
        state = tuple(array.copy() for array in self.state)
        for gang in gangs.tolist():
            take_out(gang, self.prepared.gangs, state, self._walk, self.prepared.ask)
        nodes, slots = self.prepared.problem.capacity.size, self.prepared.capacity.size
        cards = state[10].size // max(slots, 1)
        free = [np.zeros((nodes, width), dtype=np.int64) for width in (1, 1, 1, cards)]
        for column, array in zip(free, (state[4], *state[8:11]), strict=True):
            column[self.prepared.rows.node] = array.reshape(slots, -1)
        gpus, cpu_milli, memory_mib = (column.ravel() for column in free[:3])
        return Free(gpus, cpu_milli, memory_mib, free[3])

    def replace(self, gangs: Int, placed: Placed) -> None:
        """Put some gangs where `placed` says, or nowhere, if that is better than where they stand."""
        before, present = self.welfare(), self.without(gangs)[1]
        self._put_all(gangs, placed)
        if self.welfare() < before:
            self._put_all(gangs, present)

    def _put_all(self, gangs: Int, placed: Placed) -> None:
        prepared = self.prepared
        standing = self.placed[gangs]
        for gang in gangs[standing].tolist():
            take_out(gang, prepared.gangs, self.state, self._walk, prepared.ask)
        for gang in np.unique(placed.request).tolist():
            rows = placed.request == gang
            replicas = placed.gpus[rows] // prepared.problem.gangs.gpus_per_replica[gang]
            card = NO_CARD if placed.card is None else int(placed.card[rows][0])
            self.put(gang, prepared.slot_of[placed.node[rows]], replicas, card)

    def become(self, plan: Placed) -> None:
        """Stand as a whole plan says, pinned rows included in it; only gangs that differ are touched."""
        prepared, running = self.prepared, self.prepared.problem.running
        pinned = prepared.standing.pinned
        width = prepared.problem.capacity.size
        pinned_key = running.request[pinned] * width + running.node[pinned]
        gpus = plan.gpus.copy()
        at = np.searchsorted(plan.request * width + plan.node, pinned_key)
        there = (at < gpus.size) & (
            np.append(plan.request * width + plan.node, -1)[np.minimum(at, gpus.size)] == pinned_key
        )
        gpus[at[there]] -= running.gpus[pinned[there]]
        kept = gpus > 0
        wanted = Placed(
            plan.request[kept], plan.node[kept], gpus[kept], None if plan.card is None else plan.card[kept]
        )
        _, present = self.without(np.arange(prepared.problem.gangs.replicas.size))
        changed = np.setxor1d(_keys(wanted, width), _keys(present, width))
        gangs = np.unique(changed // (width << 20))
        mine = np.isin(wanted.request, gangs)
        card = None if wanted.card is None else wanted.card[mine]
        self._put_all(gangs, Placed(wanted.request[mine], wanted.node[mine], wanted.gpus[mine], card))


def _keys(placed: Placed, width: int) -> Int:
    """One number for each row: request, node, GPUs; of a part its card, so far below 0 that no GPUs are meant."""
    gpus = placed.gpus if placed.card is None else np.where(placed.card >= 0, (1 << 19) + placed.card, placed.gpus)
    return (placed.request * width + placed.node) * (1 << 20) + gpus
