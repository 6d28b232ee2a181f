"""The slow twins of values: the best filling of a node by trying all of them, and V by its definition."""

from __future__ import annotations

from functools import cache

import numpy as np

from solvers.sharing.fleet import CARD_MILLI, Shapes, SharedFleet
from solvers.sharing.tables import Float

Grid = tuple[Float, Float]


def best_filling(shapes: Shapes, bid: Float, fleet: SharedFleet, node: int) -> float:
    """Most that bids pay for pods that truly fit on what is left of one node."""
    model = int(fleet.machines.model[node])
    wanted = [k for k in range(bid.size) if bid[k] > 0 and shapes.models[k, model] and shapes.gpus[k] > 0]

    @cache
    def best(cpu: int, memory: int, cards: tuple[int, ...]) -> float:
        most = 0.0
        for k in wanted:
            left_cpu, left_memory = cpu - int(shapes.cpu_milli[k]), memory - int(shapes.memory_mib[k])
            if left_cpu < 0 or left_memory < 0:
                continue
            for after in _cards_after(cards, int(shapes.gpus[k]), int(shapes.gpu_milli[k])):
                most = max(most, float(bid[k]) + best(left_cpu, left_memory, after))
        return most

    cards = tuple(sorted(fleet.card_left[node, : fleet.machines.gpus[node]].tolist()))
    return best(int(fleet.cpu_left[node]), int(fleet.memory_left[node]), cards)


def _cards_after(cards: tuple[int, ...], count: int, milli: int) -> list[tuple[int, ...]]:
    if milli == CARD_MILLI:
        others = [left for left in cards if left < CARD_MILLI]
        rest = len(cards) - len(others) - count
        return [tuple(sorted((*others, *[0] * count, *[CARD_MILLI] * rest)))] if rest >= 0 else []
    return [
        tuple(sorted((*cards[:place], left - milli, *cards[place + 1 :])))
        for place, left in enumerate(cards)
        if left >= milli and left not in cards[:place]
    ]


def value_by_definition(shapes: Shapes, bid: Float, fleet: SharedFleet, node: int, grid: Grid) -> float:
    """min over the grid of α·cpu + β·memory + the best surplus of all cards, groups tried in every number."""
    model = int(fleet.machines.model[node])
    cards = fleet.card_left[node, : fleet.machines.gpus[node]].tolist()
    wanted = [k for k in range(bid.size) if bid[k] > 0 and shapes.models[k, model] and shapes.gpus[k] > 0]
    least = np.inf
    for alpha, beta in zip(*grid, strict=True):
        surplus = {k: float(bid[k] - alpha * shapes.cpu_milli[k] - beta * shapes.memory_mib[k]) for k in wanted}
        base = alpha * fleet.cpu_left[node] + beta * fleet.memory_left[node]
        least = min(least, float(base) + _best_cards(shapes, surplus, cards))
    return least


def _best_cards(shapes: Shapes, surplus: dict[int, float], cards: list[int]) -> float:
    @cache
    def card(left: int) -> float:
        fitting = (k for k in surplus if shapes.gpus[k] == 1 and shapes.gpu_milli[k] <= left)
        return max([0.0, *(surplus[k] + card(left - int(shapes.gpu_milli[k])) for k in fitting)])

    @cache
    def group(free: int) -> float:
        alone = card(CARD_MILLI) + group(free - 1) if free else 0.0
        several = (k for k in surplus if 1 < shapes.gpus[k] <= free)
        return max([alone, *(surplus[k] + group(free - int(shapes.gpus[k])) for k in several)])

    broken = [left for left in cards if left < CARD_MILLI]
    return sum(map(card, broken)) + group(len(cards) - len(broken))
