"""The joint problem of a few gangs as an integer program: the repair step of the search, exact where it is small.

Gang i takes y_ik replicas of its own g_i GPUs from the group k of nodes, at an ask a_k, of which s_ik stay where
they run now; c_io says that it is served by option o, a model and a fabric as far as it must not mix them:

    maximise    Σ_io c_io·(n_i·value_i - pinned asks) - Σ_ik g_i·a_k·y_ik - move_cost·Σ_i g_i·(Σ_k y_ik - s_ik)
    subject to  Σ_{k of o} y_ik = replicas_i·c_io,  Σ_o c_io <= 1,  capacity, supplier shares, close sites

A running gang keeps its size, so the GPUs that leave its nodes are those that arrive elsewhere. A *group* is a set
of nodes that no gang of the call can tell apart, with equal ask and equal free GPUs f. Totals per group are exact
if the replica sizes of its gangs divide one another: larger replicas fill whole places of smaller ones, so totals
fit m nodes if and only if, for each size g, replicas of at least g GPUs take no more than m·⌊f/g⌋·g. Otherwise
every node is a group of its own. So it is if gangs have needs: there, for each part i and each card c of node k
that it could take, z_ikc says that it does, and u_kc that a card that nobody shares is opened for parts:

    Σ_c z_ikc = y_ik,  Σ_i milli_i·z_ikc <= 1000·u_kc, or what is left of a shared card,  Σ g·y + Σ_c u_kc <= f
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from solvers.planning.candidates import Candidate, Free, Groups, candidate_of, divide
from solvers.planning.moves import Placed
from solvers.planning.problem import MILLI, NO_CARD, NO_SHARE, UNSHARED, Problem

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What is known of the best placement of some gangs. Money is integer micro-USD per hour.

    `placed`: the best one found, by request then node, without pinned rows; `welfare`: of these gangs alone, asks
    of their pinned rows included; `bound`: no placement is worth more. All are None if none was found. `proven`:
    the placement is best, or, if there is none, work that must stay served can not be. `cut_short`: whether the
    clock ended it. `deterministic_time`: that it took.
    """

    placed: Placed | None
    welfare: int | None
    bound: int | None
    proven: bool
    cut_short: bool = False
    deterministic_time: float = field(default=0.0, compare=False)


def repair(
    problem: Problem,
    gangs: Int,
    free: Free,
    hint: Placed | None,
    deterministic_time: float,
    seed: int,
    *,
    time_s: float = math.inf,
    prove: bool = False,
) -> Repaired:
    """Place some gangs jointly, while all others stay as they are.

    `gangs`: their numbers, distinct. `free`: what they may use, what their own movable rows use included. `hint`:
    a placement to begin with, such as the present one, pinned rows not included. `deterministic_time`: in CP-SAT's
    units, roughly seconds. `prove`: for a bound, of hundreds of gangs too, rather than for a good placement at
    once. Same arguments, same answer, unless `time_s`, seconds, ends it.
    """
    ends_at_s = time.monotonic() + time_s
    live = free.live
    model = _Model(problem, [candidate_of(problem, gang, free, live) for gang in gangs.tolist()], free)
    model.state()
    if hint is not None:
        model.begin_with(hint)
    solver = _solver(deterministic_time, seed, prove)
    if math.isfinite(time_s):
        solver.parameters.max_time_in_seconds = max(ends_at_s - time.monotonic(), 0.0)
    status = solver.solve(model.cp)
    took = solver.response_proto.deterministic_time
    unfinished = status in (cp_model.FEASIBLE, cp_model.UNKNOWN)
    cut_short = unfinished and math.isfinite(time_s) and took < deterministic_time
    if status == cp_model.INFEASIBLE:
        return Repaired(None, None, None, True, False, took)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        # UNKNOWN, whose bound CP-SAT may leave at 0 unproven, or MODEL_INVALID: sums of money beyond 63 bits.
        return Repaired(None, None, None, False, cut_short, took)
    bound = model.constant - solver.response_proto.inner_objective_lower_bound
    placed, worth = model.placed(solver), model.welfare_of(solver)
    return Repaired(placed, worth, bound, status == cp_model.OPTIMAL, cut_short, took)


def _solver(deterministic_time: float, seed: int, prove: bool) -> cp_model.CpSolver:
    """One worker. On 60 gangs and 300 nodes the linear relaxation, whole and from the start, finds the better
    placements; presolve, probing, symmetry and cuts only take its time, but it takes cuts to prove a bound
    (measured)."""
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_deterministic_time = deterministic_time
    solver.parameters.random_seed = seed % (1 << 31)
    solver.parameters.linearization_level = 2
    solver.parameters.add_lp_constraints_lazily = False
    if not prove:
        solver.parameters.max_num_cuts = 0
    solver.parameters.cp_model_presolve = False
    solver.parameters.cp_model_probing_level = 0
    solver.parameters.symmetry_level = 0
    return solver


class _Take(NamedTuple):
    """A variable: replicas of a candidate on a group of nodes, at so many micro-USD per hour each."""

    candidate: int
    group: int
    option: int
    stays: bool
    most: int
    cost: int
    replicas: Any


class _Model:
    """The integer program; a method per rule, `state` is the table of contents. `constant`: see `welfare`."""

    def __init__(self, problem: Problem, candidates: list[Candidate], free: Free) -> None:
        self.problem, self.candidates, self.free = problem, candidates, free
        self.cp = cp_model.CpModel()
        self.groups = Groups(problem, candidates, free)
        self.constant = sum(one.worth for one in candidates if one.need == 0)
        self.chosen: list[dict[int, Any]] = [
            {option: self.cp.new_bool_var("") for option in np.unique(one.option).tolist()} if one.need else {}
            for one in candidates
        ]
        self.takes = [take for index in range(len(candidates)) for take in self._takes(index)]
        self.sites: dict[tuple[int, int], Any] = {}
        self.seats: dict[tuple[int, int, int], Any] = {}

    def _takes(self, index: int) -> Iterator[_Take]:
        """Two variables where the gang runs now, for what stays and for what arrives; else one per group."""
        one, runs = self.candidates[index], bool(self.candidates[index].present)
        columns = one.node.tolist(), one.option.tolist(), one.holds.tolist()
        of_group = {self.groups.of[node]: (option, holds) for node, option, holds in zip(*columns, strict=True)}
        for group, (option, holds) in of_group.items() if one.need else ():
            nodes = self.groups.members[group]
            ask = int(self.problem.nodes.ask_micro_usd[nodes[0]])
            stays = min(one.present.get(nodes[0], 0) // one.size, holds)
            move_cost = self.problem.move_cost_micro_usd if runs else 0
            away = 0 if stays and self._milli(index) else holds * len(nodes)
            for here, due, room in ((True, (ask,), stays), (False, (ask, move_cost), away)):
                most = min(room, one.need)
                if most:
                    replicas = self.cp.new_int_var(0, most, "")
                    cost = sum(self._money(one.gang, one.size, price) for price in due)
                    yield _Take(index, group, option, here, most, cost, replicas)

    def _money(self, gang: int, gpus: int, price: int) -> int:
        return int(self.problem.gangs.money(np.array([gang]), np.array([gpus]), np.array([price]))[0])

    def _milli(self, index: int) -> int:
        """Thousandths of a card that a candidate wants, 0 unless it is a part."""
        needs = self.problem.gangs.needs
        return 0 if needs is None else int(needs.gpu_milli[self.candidates[index].gang])

    def _by(self, key: Any) -> dict[Any, list[_Take]]:
        """The variables by what `key` tells of each."""
        found: defaultdict[Any, list[_Take]] = defaultdict(list)
        for take in self.takes:
            found[key(take)].append(take)
        return found

    def gangs_are_whole_or_absent(self) -> None:
        """Σ replicas of an option = need if it is chosen, else 0."""
        for (index, option), takes in self._by(lambda take: (take.candidate, take.option)).items():
            need = self.candidates[index].need
            self.cp.add(sum_of(takes) == need * self.chosen[index][option])

    def one_option_is_chosen(self) -> None:
        """At most one; exactly one if the gang must stay served."""
        for one, chosen in zip(self.candidates, self.chosen, strict=True):
            if one.need and self.problem.gangs.must_serve[one.gang]:
                self.cp.add_exactly_one(chosen.values())
            else:
                self.cp.add_at_most_one(chosen.values())

    def nodes_are_not_overfull(self) -> None:
        """For each size g, replicas of at least g GPUs fit whole places of g; else, see above, Σ g·y <= f."""
        for group, every in self._by(lambda take: take.group).items():
            takes = [take for take in every if not self._milli(take.candidate)]
            count, free = len(self.groups.members[group]), int(self.free.gpus[self.groups.members[group][0]])
            sizes = np.array([self._size(take) for take in takes], dtype=np.int64)
            places = np.unique(sizes).tolist() if divide(sizes) else [1]
            for size in places:
                larger = [take for take in takes if self._size(take) >= size]
                most = count * (free // size)
                weights = [self._size(take) // size for take in larger]
                if sum(weight * take.most for weight, take in zip(weights, larger, strict=True)) > most:
                    self.cp.add(sum_of(larger, weights) <= most)

    def needs_are_met(self) -> None:
        """CPU, memory and cards of every node; see above."""
        needs, free = self.problem.gangs.needs, self.free
        if needs is None or free.cpu_milli is None or free.memory_mib is None or free.left is None:
            return
        for group, takes in self._by(lambda take: take.group).items():
            node = self.groups.members[group][0]
            gangs = [self.candidates[take.candidate].gang for take in takes]
            for column, left in ((needs.cpu_milli, free.cpu_milli), (needs.memory_mib, free.memory_mib)):
                wanted = column[gangs].tolist()
                if any(wanted):
                    self.cp.add(sum_of(takes, wanted) <= int(left[node]))
            parts = [take for take in takes if self._milli(take.candidate)]
            whole = [take for take in takes if not self._milli(take.candidate)]
            if parts:
                opened = self._opened_cards(node, parts, free.left[node].tolist())
                used = sum_of(whole, [self._size(take) for take in whole]) + sum(opened)
                self.cp.add(used <= int(free.gpus[node]))

    def _opened_cards(self, node: int, parts: list[_Take], left: list[int]) -> list[Any]:
        """Seat parts on the cards of a node; a variable for each card that may be opened.

        Cards that nobody shares are alike, so that there are as many to open as GPUs are free, and those on which
        somebody runs now.
        """
        own = {take.candidate: self._own_card(take) for take in parts}
        strange = [card for card, here in enumerate(left) if here == UNSHARED and card not in own.values()]
        needless, opened = set(strange[int(self.free.gpus[node]) :]), dict[int, Any]()
        seats: dict[int, list[Any]] = {take.candidate: [] for take in parts}
        for card in (card for card in range(len(left)) if card not in needless):
            here = []
            for take in parts:
                if own[take.candidate] in (NO_CARD, card):
                    seat = self.seats[take.candidate, node, card] = self.cp.new_bool_var("")
                    seats[take.candidate].append(seat)
                    here.append(self._milli(take.candidate) * seat)
            if left[card] == UNSHARED:
                opened[card] = self.cp.new_bool_var("")
                self.cp.add(sum(here) <= MILLI * opened[card])
            else:
                self.cp.add(sum(here) <= left[card])
        for take in parts:
            self.cp.add(sum(seats[take.candidate]) == take.replicas)
        for one, other in pairwise(card for card in strange if card not in needless):
            self.cp.add(opened[one] >= opened[other])  # alike: the lowest numbers first
        return list(opened.values())

    def _own_card(self, take: _Take) -> int:
        """The card that a part must take where it runs."""
        running, gang = self.problem.running, self.candidates[take.candidate].gang
        if not take.stays or running.card is None:
            return NO_CARD
        return int(running.card[np.searchsorted(running.request, gang)])

    def suppliers_give_at_most_their_share(self) -> None:
        """Pinned GPUs count."""
        nodes = self.problem.nodes
        for (index, supplier), takes in self._by(self._supplier).items():
            one = self.candidates[index]
            most = int(self.problem.gangs.max_gpus_per_supplier[one.gang])
            pinned = sum(gpus for node, gpus in one.pinned.items() if nodes.supplier[node] == supplier)
            if most != NO_SHARE:
                self.cp.add(sum_of(takes) <= max(0, most - pinned) // one.size)

    def sites_are_close(self) -> None:
        """Of two sites beyond the limit at most one is used; beside pinned sites, `Candidate.node` sees to it."""
        apart = {(index, site) for index, one in enumerate(self.candidates) for pair in one.far for site in pair}
        for (index, site), takes in self._by(self._site).items():
            if (index, site) in apart:
                need = self.candidates[index].need
                used = self.sites[index, site] = self.cp.new_bool_var("")
                self.cp.add(sum_of(takes) <= min(need, sum(take.most for take in takes)) * used)
        for index, one in enumerate(self.candidates):
            for a, b in one.far if one.need else ():
                self.cp.add_at_most_one(self.sites[index, a], self.sites[index, b])

    def welfare(self) -> None:
        """Maximise worth less asks and moves. Gangs without a choice, all pinned, are left out: `constant`."""
        chosen = [
            (one.worth, c) for one, own in zip(self.candidates, self.chosen, strict=True) for c in own.values()
        ]
        terms = chosen + [(-take.cost, take.replicas) for take in self.takes]
        self.cp.maximize(cp_model.LinearExpr.weighted_sum([v for _, v in terms], [c for c, _ in terms]))

    def state(self) -> None:
        """State all rules."""
        self.gangs_are_whole_or_absent()
        self.one_option_is_chosen()
        self.nodes_are_not_overfull()
        self.needs_are_met()
        self.suppliers_give_at_most_their_share()
        self.sites_are_close()
        self.welfare()

    def begin_with(self, hint: Placed) -> None:
        """Hint a value for every variable; rows of other gangs and of nodes that are left out are passed over."""
        index_of = {one.gang: index for index, one in enumerate(self.candidates)}
        left: defaultdict[tuple[int, int], int] = defaultdict(int)
        for gang, node, gpus in zip(*(column.tolist() for column in hint[:3]), strict=True):
            if gang in index_of and node in self.groups.of:
                left[index_of[gang], self.groups.of[node]] += gpus // self.candidates[index_of[gang]].size
        options, sites = set(), set()
        for take in self.takes:
            value = min(left[take.candidate, take.group], take.most)
            left[take.candidate, take.group] -= value
            self.cp.add_hint(take.replicas, value)
            if value:
                options.add((take.candidate, take.option))
                sites.add(self._site(take))
        for index, chosen in enumerate(self.chosen):
            for option, variable in chosen.items():
                self.cp.add_hint(variable, (index, option) in options)
        for key, variable in self.sites.items():
            self.cp.add_hint(variable, key in sites)

    def welfare_of(self, solver: cp_model.CpSolver) -> int:
        """W of these gangs, from the values of the variables."""
        cost = sum(take.cost * solver.value(take.replicas) for take in self.takes)
        chosen = zip(self.candidates, self.chosen, strict=True)
        return self.constant - cost + sum(one.worth * solver.value(c) for one, own in chosen for c in own.values())

    def placed(self, solver: cp_model.CpSolver) -> Placed:
        """Lay the totals of every group on its nodes, larger replicas first; within a size, gang by gang.

        If gangs have needs, a group is one node, which holds all of its total.
        """
        rows: defaultdict[tuple[int, int], int] = defaultdict(int)
        for group, takes in self._by(lambda take: take.group).items():
            free = {node: int(self.free.gpus[node]) for node in self.groups.members[group]}
            for take in sorted(takes, key=self._size, reverse=True):
                size, left = self._size(take), int(solver.value(take.replicas))
                for node in free:
                    replicas = min(left, free[node] // size) if self.problem.gangs.needs is None else left
                    if replicas:
                        rows[self.candidates[take.candidate].gang, node] += replicas * size
                        free[node] -= replicas * size
                        left -= replicas
        table = np.array([(*key, gpus) for key, gpus in sorted(rows.items())], dtype=np.int64).reshape(-1, 3)
        request, node, gpus = table.T
        return Placed(request, node, gpus, self._cards(solver, table))

    def _cards(self, solver: cp_model.CpSolver, table: Int) -> Int | None:
        """The card of each row of a table of (gang, node, GPUs)."""
        if self.problem.gangs.needs is None:
            return None
        seated = [key for key, seat in self.seats.items() if solver.value(seat)]
        card_of = {(self.candidates[index].gang, node): card for index, node, card in seated}
        return np.array([card_of.get((gang, node), NO_CARD) for gang, node, _ in table.tolist()], dtype=np.int64)

    def _size(self, take: _Take) -> int:
        return self.candidates[take.candidate].size

    def _site(self, take: _Take) -> tuple[int, int]:
        return take.candidate, int(self.problem.nodes.site[self.groups.members[take.group][0]])

    def _supplier(self, take: _Take) -> tuple[int, int]:
        return take.candidate, int(self.problem.nodes.supplier[self.groups.members[take.group][0]])


def sum_of(takes: list[_Take], weights: list[int] | None = None) -> Any:
    """Σ weight·replicas; weights are 1 unless given."""
    return cp_model.LinearExpr.weighted_sum([take.replicas for take in takes], weights or [1] * len(takes))
