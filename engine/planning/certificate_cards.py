"""Parts of GPUs, CPU and memory: what every card and node holds after the plan, and after every step of it.

A part stands on one card, named in the plan; its thousandths, with those of pinned parts there, come to no more
than the card. A card on which a part stands is no whole GPU.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import polars as pl

from engine.planning.certificate_faults import Fault, FaultCode, faults_in_rows
from engine.planning.certificate_ledger import Ledger

CARD_MILLI = 1_000
PART = pl.col("part_milli") > 0


def opened_cards(ledger: Ledger) -> pl.DataFrame:
    """By node: `opened`, cards that parts of the plan take beside those on which pinned parts stand."""
    fixed = ledger.running.filter(PART & pl.col("pinned")).select("node_id", "card")
    taken = ledger.rows.filter(PART).select("node_id", "card").unique()
    return taken.join(fixed, on=["node_id", "card"], how="anti").group_by("node_id").agg(opened=pl.len())


def wrong_cards(ledger: Ledger) -> Iterator[Fault]:
    """Parts without a card that their node has, whole GPUs with one, parts that change cards on their node."""
    card = pl.col("card")
    for broken, sentence in (
        (PART & card.is_null(), "names no card"),
        (~PART & card.is_not_null(), "names card {card}, and wants whole GPUs"),
        (card >= pl.col("node_gpu_count"), "names card {card} of {node_gpu_count}"),
        ((pl.col("current") > 0) & (card != pl.col("card_now")), "goes from card {card_now} to card {card}"),
    ):
        yield from faults_in_rows(
            ledger.rows, broken, FaultCode.WRONG_CARD, "{request_id} on {node_id} " + sentence
        )


def overfull_cards(ledger: Ledger) -> Iterator[Fault]:
    """Cards of which more is taken than there is. Pinned parts stay where they are, served or not."""
    fixed = ledger.running.filter(PART & pl.col("pinned")).select("node_id", "card", "part_milli")
    loose = ledger.rows.filter(PART & (pl.col("pinned") == 0)).select("node_id", "card", "part_milli")
    cards = pl.concat([fixed, loose]).group_by("node_id", "card", maintain_order=True)
    held = cards.agg(milli=pl.col("part_milli").sum())
    sentence = "card {card} of {node_id} gives {milli} thousandths"
    yield from faults_in_rows(held, pl.col("milli") > CARD_MILLI, FaultCode.OVERFULL_CARD, sentence)


def overfull_beside(ledger: Ledger) -> Iterator[Fault]:
    """Nodes that give more CPU or memory than pinned rows leave."""
    replicas = (pl.col("gpus") - pl.col("pinned")) // pl.col("gpus_per_node")
    for need, left, code in (
        ("cpu_milli", "node_cpu_left", FaultCode.OVERFULL_CPU),
        ("memory_mib", "node_memory_left", FaultCode.OVERFULL_MEMORY),
    ):
        given = ledger.rows.group_by("node_id", maintain_order=True).agg(
            given=(replicas * pl.col(need)).sum(), left=pl.col(left).first()
        )
        sentence = f"{{node_id}} gives {{given}} {need}, it has {{left}}"
        yield from faults_in_rows(given, pl.col("given") > pl.col("left"), code, sentence)


class Floor:
    """What every node has left while requests move: once all that is refused or stopped has left, then by
    steps.
    """

    def __init__(self, ledger: Ledger) -> None:
        fleet = ledger.fleet.select("node_id", "gpu_free", "cpu_milli", "memory_mib")
        self._gpus: Counter[str] = Counter()
        self._beside: dict[str, list[int | None]] = {}
        for node_id, free, cpu, memory in fleet.iter_rows():
            self._gpus[node_id] = free
            self._beside[node_id] = [cpu, memory]
        self._cards: defaultdict[str, Counter[int]] = defaultdict(Counter)
        wants = ledger.requests.select("request_id", "gpus_per_node", "part_milli", "cpu_milli", "memory_mib")
        self._wants = {request_id: tuple(row) for request_id, *row in wants.iter_rows()}
        running = ledger.running.select("request_id", "node_id", "gpus", "card")
        self._card_now = {(row[0], row[1]): row[3] for row in running.iter_rows()}
        planned = ledger.rows.select("request_id", "node_id", "card")
        self._card_then = {(row[0], row[1]): row[2] for row in planned.iter_rows()}
        served = set(ledger.files.plan["request_id"])
        for request_id, node_id, gpus, card in running.iter_rows():
            self._gpus[node_id] += self._whole(request_id, gpus)
            if card is not None and not self._cards[node_id][card]:
                self._gpus[node_id] += 1
            self._change(request_id, node_id, gpus, card, 1)
        for request_id, node_id, gpus, card in running.iter_rows():
            if request_id not in served:
                self._change(request_id, node_id, gpus, card, -1)

    def move(self, request_id: str, source: str, target: str, gpus: int) -> None:
        """GPUs of a request go from node to node."""
        if request_id in self._wants and source in self._beside and target in self._beside:
            self._change(request_id, source, gpus, self._card_now.get((request_id, source)), -1)
            self._change(request_id, target, gpus, self._card_then.get((request_id, target)), 1)

    def lacks(self, node_id: str) -> Iterator[str]:
        """What a node is short of."""
        if self._gpus[node_id] < 0:
            yield f"{-self._gpus[node_id]} GPUs short"
        for left, name in zip(self._beside[node_id], ("cpu_milli", "memory_mib"), strict=True):
            if left is not None and left < 0:
                yield f"{-left} {name} short"
        for card, milli in self._cards[node_id].items():
            if milli > CARD_MILLI:
                yield f"with {milli} thousandths on card {card}"

    def _whole(self, request_id: str, gpus: int) -> int:
        return 0 if self._wants[request_id][1] else gpus

    def _change(self, request_id: str, node_id: str, gpus: int, card: int | None, sign: int) -> None:
        size, milli, cpu, memory = self._wants[request_id]
        self._gpus[node_id] -= sign * self._whole(request_id, gpus)
        if milli and card is not None:
            cards = self._cards[node_id]
            was_whole = not cards[card]
            cards[card] += sign * milli
            self._gpus[node_id] += (not cards[card]) - was_whole
        replicas = sign * (gpus // size)
        self._beside[node_id] = [
            None if left is None else left - replicas * need
            for left, need in zip(self._beside[node_id], (cpu, memory), strict=True)
        ]
