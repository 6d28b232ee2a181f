"""Scores of the published policies for shared GPUs: one node for one pod, higher is better.

Written from the descriptions in Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
Fragmentation Gradient Descent" (USENIX ATC '23), and from how its published runs are set up (configuration of
hkust-adsl/kubernetes-scheduler-simulator @ 8f3d641). As there, scores are whole numbers from 0 to 100 and the
first node of the best score is taken: both matter (FGD with exact scores loses 1.4 points on the default trace).
"""

from __future__ import annotations

import math

import numpy as np

from solvers.kernel import Arrays, kernel
from solvers.sharing.fleet import CARD_MILLI, WHOLE, Int, repeats

RANDOM, DOT_PRODUCT, GPU_PACKING, BEST_FIT, FGD = range(5)
TOP_SCORE = 100
LARGEST_CPU_MILLI, LARGEST_GPU_MILLI = 128_000, 8_000
"""The largest node, by which CPU and GPU are scaled to compare them."""


@kernel
def score(rule: int, shapes: Arrays, fleet: Arrays, typical: Arrays, shape: int, node: int) -> tuple[int, int]:
    """(score, card) of a node on which the pod fits."""
    if rule == FGD:
        return _fragmentation_score(shapes, fleet, typical, shape, node)
    card = tightest_card(shapes, fleet, shape, node)
    if rule == DOT_PRODUCT:
        return _dot_product_score(shapes, fleet, shape, node), card
    if rule == GPU_PACKING:
        return _packing_score(shapes, fleet, shape, node, card), card
    if rule == BEST_FIT:
        return _best_fit_score(shapes, fleet, shape, node), card
    return 0, card


@kernel
def tightest_card(shapes: Arrays, fleet: Arrays, shape: int, node: int) -> int:
    """The card with the least left that holds the part; WHOLE for a pod of whole GPUs or none."""
    if shapes[2][shape] != 1 or shapes[3][shape] == CARD_MILLI:
        return WHOLE
    card_left, best = fleet[2][node], WHOLE
    for card in range(fleet[3][node]):
        if card_left[card] >= shapes[3][shape] and (best == WHOLE or card_left[card] < card_left[best]):
            best = card
    return best


@kernel
def _dot_product_score(shapes: Arrays, fleet: Arrays, shape: int, node: int) -> int:
    """Tetris turned round: the less the free vector aligns with the asked one, the better."""
    cpu = fleet[0][node] / LARGEST_CPU_MILLI * (shapes[0][shape] / LARGEST_CPU_MILLI)
    asked = shapes[2][shape] * shapes[3][shape]
    gpu = fleet[2][node].sum() / LARGEST_GPU_MILLI * (asked / LARGEST_GPU_MILLI)
    return int(TOP_SCORE * (1.0 - (cpu + gpu) / 2.0))


@kernel
def _best_fit_score(shapes: Arrays, fleet: Arrays, shape: int, node: int) -> int:
    """The less stays free, CPU and GPU weighing the same, the better."""
    cpu = (fleet[0][node] - shapes[0][shape]) / LARGEST_CPU_MILLI
    gpu = (fleet[2][node].sum() - shapes[2][shape] * shapes[3][shape]) / LARGEST_GPU_MILLI
    return int((1.0 - 0.5 * cpu - 0.5 * gpu) * TOP_SCORE)


@kernel
def _packing_score(shapes: Arrays, fleet: Arrays, shape: int, node: int, card: int) -> int:
    """Shared cards first, then free cards of used nodes, then free nodes; CPU pods are indifferent."""
    if shapes[2][shape] == 0:
        return 0
    card_left, cards = fleet[2][node], fleet[3][node]
    free = (card_left == CARD_MILLI).sum()
    if free == cards:
        return int(max(TOP_SCORE // 3 - free, free))
    if card != WHOLE and card_left[card] < CARD_MILLI:
        percent_left = card_left[card] * 100 // CARD_MILLI
        return int(max(TOP_SCORE - percent_left // 10, TOP_SCORE // 2))
    return int(max(TOP_SCORE // 2 - shapes[2][shape], TOP_SCORE // 3))


@kernel
def _fragmentation_score(shapes: Arrays, fleet: Arrays, typical: Arrays, shape: int, node: int) -> tuple[int, int]:
    """How much fragmentation falls, through a sigmoid, on the best card."""
    card_left, cards, model = fleet[2][node].copy(), fleet[3][node], fleet[4][node]
    cpu = fleet[0][node]
    before = fragmentation(typical, card_left, cards, cpu, model)
    cpu -= shapes[0][shape]
    if shapes[2][shape] != 1 or shapes[3][shape] == CARD_MILLI:
        _take_whole_cards(card_left, shapes[2][shape])
        return _through_sigmoid(before - fragmentation(typical, card_left, cards, cpu, model)), WHOLE
    best, best_card = -1, WHOLE
    for card in range(cards):
        if card_left[card] < shapes[3][shape] or repeats(fleet[2], node, card):
            continue
        card_left[card] -= shapes[3][shape]
        found = _through_sigmoid(before - fragmentation(typical, card_left, cards, cpu, model))
        card_left[card] += shapes[3][shape]
        if found > best:
            best, best_card = found, card
    return best, best_card


@kernel
def _take_whole_cards(card_left: Int, count: int) -> None:
    for card in range(card_left.size):
        if count > 0 and card_left[card] == CARD_MILLI:
            card_left[card] = 0
            count -= 1


@kernel
def _through_sigmoid(gain_milli: float) -> int:
    return int(TOP_SCORE / (1.0 + math.exp(-gain_milli / CARD_MILLI)))


@kernel
def fragmentation(typical: Arrays, card_left: Int, cards: int, cpu_milli: int, model: int) -> float:
    """GPU milli that a typical pod, on average, cannot use: all that is free if it does not fit, else what is left
    on cards too small for it. `typical` is (cpu, gpus, gpu milli, models, share).
    """
    cpu, gpus, gpu_milli, models, share = typical
    total, lost = card_left.sum(), 0.0
    for pod in range(cpu.size):
        if gpus[pod] == 0 or cpu_milli < cpu[pod] or not models[pod, model]:
            lost += share[pod] * total
            continue
        room, small = 0, 0
        for card in range(cards):
            if card_left[card] >= gpu_milli[pod]:
                room += 1
            else:
                small += card_left[card]
        lost += share[pod] * (small if room >= gpus[pod] else total)
    return lost


def typical_pods(shapes: Arrays, count: Int, popularity: float = 0.95) -> Arrays:
    """The most frequent pods of a workload (memory apart) that make up 95 % of it, for `fragmentation`."""
    cpu, _, gpus, gpu_milli, models = shapes
    codes = np.column_stack((cpu, gpu_milli, gpus, models))
    rows, of = np.unique(codes, axis=0, return_inverse=True)
    counts = np.bincount(of.reshape(-1), weights=count, minlength=len(rows))
    order = np.lexsort((*(-rows[:, column] for column in (2, 1, 0)), -counts))
    needed = int(np.searchsorted(np.cumsum(counts[order]), popularity * counts.sum())) + 1
    kept = order[:needed]
    share = counts[kept] / counts[kept].sum()
    columns = np.ascontiguousarray(rows[kept].T)
    return columns[0], columns[2], columns[1], np.ascontiguousarray(columns[3:].T.astype(bool)), share
