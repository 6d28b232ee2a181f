"""A slow, obvious twin of placing a part of a GPU: one CP-SAT variable for every card that could take it."""

from __future__ import annotations

from dataclasses import dataclass

from ortools.sat.python import cp_model

from tests.oracles import NODE_RULES, Case, NotProvenError, Row
from tests.tight_worlds import PartWorld

WHOLE = 1_000


@dataclass(frozen=True)
class Seat:
    """A card that could take the part. `left`: thousandths before; WHOLE of a card that is not shared."""

    node: Row
    left: int
    price: int

    @property
    def wasted(self) -> tuple[int, int]:
        """What the rule of ties looks at first: a whole card broken, then what is left of a shared one."""
        return (1, 0) if self.left == WHOLE else (0, self.left)


def seats_of(parts: PartWorld) -> list[Seat]:
    """Every card that keeps all constraints."""
    world = parts.world
    case = Case(world.fleet, world.rtt, world.posted, world.request)
    cap = world.request.get("max_price_micro_usd_per_gpu_hour")
    found = []
    for node in world.fleet:
        cards = parts.cards.get(node["node_id"], ())
        whole = node["gpu_free"] - len(cards)
        price = case.price(node)
        dear = cap is not None and price > cap
        if node["state"] != "READY" or dear or case.replicas_beside(node) < 1:
            continue
        if all(rule(case, node) for rule in NODE_RULES.values()):
            found += [Seat(node, left, price) for left in (*cards, *[WHOLE] * min(whole, 1))]
    return found


def best_seat(parts: PartWorld) -> tuple[int, tuple[int, int]] | None:
    """(least price per GPU-hour, the best first two ties of the rule); None: proven that there is no place."""
    seats = seats_of(parts)
    model = cp_model.CpModel()
    milli = parts.world.request["gpu_milli"]
    stands = [model.new_bool_var("") for _ in seats]
    model.add_exactly_one(stands)
    for seat, here in zip(seats, stands, strict=True):
        model.add(milli * here <= seat.left)
    keys = [seat.price * 10**4 + seat.wasted[0] * 2_000 + seat.wasted[1] for seat in seats]
    model.minimize(sum(key * here for key, here in zip(keys, stands, strict=True)))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    status = solver.solve(model) if seats else cp_model.INFEASIBLE
    if status == cp_model.INFEASIBLE:
        return None
    if status != cp_model.OPTIMAL:
        raise NotProvenError(solver.status_name(status))
    chosen = next(seat for seat, here in zip(seats, stands, strict=True) if solver.value(here))
    return chosen.price, chosen.wasted
