"""A plan near a given one whose moves can be ordered: who gives up its place when gangs wait for one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.planning.moves import Migration, Placed, Placements, furthest
from solvers.planning.problem import NO_CARD, Problem
from solvers.planning.rooms import Rooms

Int = NDArray[np.int64]


def orderable(problem: Problem, plan: Placements) -> Placed:
    """The plan itself if its moves can be ordered, else one near it whose moves can.

    Of the blocked gangs the one with the least to lose stays where it runs, or is refused if it is displaced; who
    was to take its place yields in the same way, or does not start. Work that must stay served always stays
    served: at the worst all of it remains where it is. Gangs that were not to start may be placed elsewhere
    afterwards: whatever starts last cannot spoil the order.
    """
    placed = Placed(plan.request, plan.node, plan.gpus, plan.card)
    while (migration := furthest(problem, placed)).pending:
        placed = _Retreat(problem, placed, migration).run()
    return placed


class _Retreat:
    """Gangs that give up their place in the plan until a stuck migration can go on to its end.

    In the stuck state everything fits: what moved is at its target, all others are where they started. So it is
    enough that pending gangs stay and new work yields. `slack`: what the plan leaves; mutated.
    """

    def __init__(self, problem: Problem, plan: Placed, migration: Migration) -> None:
        running = problem.running
        self.problem, self.plan, self.migration = problem, plan, migration
        self.running = set(running.request.tolist())
        gone = ~running.pinned & ~problem.live[running.node]
        self.displaced = set(running.request[gone].tolist())
        self.given_up: set[int] = set()
        self.slack = _slack(problem, plan)
        self.loss = self._losses()
        self.takers = self._takers()

    def run(self) -> Placed:
        """The plan without what was given up."""
        pending = self.migration.pending
        for gang in sorted(pending, key=lambda gang: (self.loss[gang], gang)):
            if gang in pending:
                self._give_up(gang)
        return self._rows()

    def _give_up(self, gang: int) -> None:
        overfull = self._withdraw(gang)
        while overfull:
            if not self.slack.is_overfull(overfull[-1]):
                overfull.pop()
            else:
                overfull += self._withdraw(self._least_to_lose(overfull[-1]))

    def _withdraw(self, gang: int) -> list[int]:
        """Let a gang stay, or refuse it if it can not; the nodes that it then does not leave."""
        self.given_up.add(gang)
        self.migration.pending.discard(gang)
        if gang not in self.running or gang in self.displaced:
            self._refuse(gang)
            return []
        for node, gpus in self.migration.enters[gang]:
            self.slack.give(gang, node, gpus)
        for node, gpus in self.migration.leaves[gang]:
            self.slack.take(gang, node, gpus, now=True)
        return [node for node, _ in self.migration.leaves[gang]]

    def _refuse(self, gang: int) -> None:
        running, plan = self.problem.running, self.plan
        rows = slice(*np.searchsorted(plan.request, [gang, gang + 1]))
        for node, gpus in zip(plan.node[rows].tolist(), plan.gpus[rows].tolist(), strict=True):
            self.slack.give(gang, node, gpus)
        for row in range(*np.searchsorted(running.request, [gang, gang + 1])):
            node, gpus = int(running.node[row]), int(running.gpus[row])
            if running.pinned[row]:
                self.slack.take(gang, node, gpus, now=True)
            else:
                self.migration.free(gang, node, gpus)
        self.migration.go_on()

    def _least_to_lose(self, node: int) -> int:
        """Of the gangs that were to enter a node and have not yet, the one whose yielding costs least."""
        pending, given_up = self.migration.pending, self.given_up
        takers = (gang for gang in self.takers[node] if gang in pending or gang not in self.running)
        return min((gang for gang in takers if gang not in given_up), key=lambda gang: (self.loss[gang], gang))

    def _takers(self) -> dict[int, list[int]]:
        """Pending gangs and new ones by the nodes that they enter, as far as pending gangs would leave them."""
        pending, plan, enters = self.migration.pending, self.plan, self.migration.enters
        takers: dict[int, list[int]] = {node: [] for gang in pending for node, _ in self.migration.leaves[gang]}
        for gang in pending:
            for node, _ in enters[gang]:
                if node in takers:
                    takers[node].append(gang)
        starts = np.isin(plan.node, list(takers)) & ~np.isin(plan.request, self.problem.running.request)
        for node, gang in zip(plan.node[starts].tolist(), plan.request[starts].tolist(), strict=True):
            takers[node].append(gang)
        return takers

    def _losses(self) -> Int:
        """(gangs,) micro-USD per hour that a gang of the plan loses if it gives up its place in it."""
        problem, plan, gangs = self.problem, self.plan, self.problem.gangs
        running, ask = problem.running, problem.nodes.ask_micro_usd
        loss = gangs.money(np.arange(gangs.gpus.size), gangs.gpus, gangs.value_micro_usd)
        stays = np.setdiff1d(running.request, np.array(list(self.displaced), dtype=np.int64))
        loss[stays] = 0
        kept = np.isin(running.request, stays)
        paid = gangs.money(running.request, running.gpus, ask[running.node])
        np.add.at(loss, running.request[kept], paid[kept])
        np.subtract.at(loss, plan.request, gangs.money(plan.request, plan.gpus, ask[plan.node]))
        moved = [(gang, sum(gpus for _, gpus in left)) for gang, left in self.migration.leaves.items()]
        moving, left = np.array(moved, dtype=np.int64).reshape(-1, 2).T
        loss[moving] -= gangs.money(moving, left, np.full(moving.size, problem.move_cost_micro_usd))
        return loss

    def _rows(self) -> Placed:
        plan, running = self.plan, self.problem.running
        given_up = np.array(sorted(self.given_up), dtype=np.int64)
        stays = np.isin(running.request, np.setdiff1d(given_up, np.array(sorted(self.displaced), dtype=np.int64)))
        goes_on = ~np.isin(plan.request, given_up)
        request = np.append(plan.request[goes_on], running.request[stays])
        node = np.append(plan.node[goes_on], running.node[stays])
        by_gang = np.lexsort((node, request))
        gpus = np.append(plan.gpus[goes_on], running.gpus[stays])
        card = None
        if plan.card is not None:
            present = np.full(running.gpus.size, NO_CARD) if running.card is None else running.card
            card = np.append(plan.card[goes_on], present[stays])[by_gang]
        return Placed(request[by_gang], node[by_gang], gpus[by_gang], card)


def _slack(problem: Problem, plan: Placements) -> Rooms:
    """What a plan does not use of the capacity; pinned rows are outside of it."""
    running, slack = problem.running, Rooms(problem, plan)
    for row in zip(plan.request.tolist(), plan.node.tolist(), plan.gpus.tolist(), strict=True):
        slack.take(*row)
    pinned = running.pinned & np.isin(running.request, plan.request)
    columns = (column[pinned].tolist() for column in (running.request, running.node, running.gpus))
    for row in zip(*columns, strict=True):
        slack.give(*row, now=True)
    return slack
