"""Nobody waits for a compiler: after the warm-up no kernel meets a type of argument for the first time."""

from __future__ import annotations

import multiprocessing
import sys

from engine.market.explain import explain
from engine.market.state import MarketState
from solvers import close_sites
from solvers.warmup import warm_up
from tests.full_size import size
from tests.market.books import NoBook
from tests.simulation.life import run
from tests.solvers.laws import Asked
from tests.tight_worlds import tight_world_from_seed
from tests.worlds import world_from_seed

LIVES, WORLDS = size(3, 30), size(60, 400)


def signatures() -> set[tuple[str, str]]:
    """Kernels of the loaded solvers and the types they are compiled for."""
    modules = [module for name, module in sys.modules.items() if name.startswith("solvers.")]
    kernels = {each for module in modules for each in vars(module).values() if hasattr(each, "signatures")}
    return {(kernel.py_func.__qualname__, str(types)) for kernel in kernels for types in kernel.signatures}


def compiled_late() -> set[tuple[str, str]]:
    """What random lives and requests compile after the warm-up, in a process of their own."""
    warm_up()
    warm = signatures()
    for seed in range(LIVES):
        run(seed)
    close_sites.SHRINK_AFTER = 0  # small worlds hardly ever branch as deep as large ones do
    for seed in range(WORLDS):
        for asked in (Asked(world_from_seed(seed)), Asked(tight_world_from_seed(seed))):
            explain(MarketState(inventory=asked.inventory), asked.request, NoBook())
    return signatures() - warm


def test_what_serves_was_compiled_before() -> None:
    """Law: lives of a market (orders, drains, losses, batches) and requests of every kind compile nothing."""
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        assert fresh.apply(compiled_late) == set()
