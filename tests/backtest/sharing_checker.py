"""Checks a replay from its placements alone, pod by pod, by the rules as they are said; shares no code with it."""

from __future__ import annotations

from engine.backtest.sharing_replay import Played
from engine.backtest.sharing_trace import SharingTrace


def faults(trace: SharingTrace, played: Played) -> list[str]:
    """Every rule that is broken, by the number of the pod; empty if the replay is what it says it is."""
    ledger, found = _Ledger(trace), []
    for pod, kind in enumerate(played.kind.tolist()):
        node = int(played.node[pod])
        if node < 0:
            if ledger.has_room(kind):
                found.append(f"pod {pod}: refused, and fits")
        else:
            cards = [card for card in range(62) if int(played.cards[pod]) >> card & 1]
            found += [f"pod {pod}: {fault}" for fault in ledger.put(kind, node, cards)]
        if int(played.placed_milli[pod]) != ledger.placed or int(played.arrived_milli[pod]) != ledger.came(kind):
            found.append(f"pod {pod}: miscounted")
    return found


class _Ledger:
    """What is used of every node."""

    def __init__(self, trace: SharingTrace) -> None:
        shapes, machines = trace.shapes, trace.machines
        columns = (shapes.cpu_milli, shapes.memory_mib, shapes.gpus, shapes.gpu_milli)
        self.kinds = list(zip(*(column.tolist() for column in columns), strict=True))
        self.accepts, self.model = shapes.models.tolist(), machines.model.tolist()
        self.cpu, self.memory = machines.cpu_milli.tolist(), machines.memory_mib.tolist()
        self.cards = [[1_000] * gpus for gpus in machines.gpus.tolist()]
        self.placed = self.arrived = 0

    def came(self, kind: int) -> int:
        self.arrived += self.kinds[kind][2] * self.kinds[kind][3]
        return self.arrived

    def put(self, kind: int, node: int, cards: list[int]) -> list[str]:
        cpu, memory, gpus, milli = self.kinds[kind]
        if any(card >= len(self.cards[node]) for card in cards):
            return ["card that the node does not have"]
        self.cpu[node] -= cpu
        self.memory[node] -= memory
        for card in cards:
            self.cards[node][card] -= milli
        self.placed += gpus * milli
        rules = {
            "CPU exceeded": self.cpu[node] >= 0,
            "memory exceeded": self.memory[node] >= 0,
            "card exceeded": all(self.cards[node][card] >= 0 for card in cards),
            "wrong number of cards": len(cards) == gpus,
            "model not accepted": gpus == 0 or self.accepts[kind][self.model[node]],
        }
        return [rule for rule, holds in rules.items() if not holds]

    def has_room(self, kind: int) -> bool:
        cpu, memory, gpus, milli = self.kinds[kind]
        return any(
            self.cpu[node] >= cpu
            and self.memory[node] >= memory
            and (gpus == 0 or self.accepts[kind][self.model[node]])
            and sum(left >= milli for left in cards) >= gpus
            for node, cards in enumerate(self.cards)
        )
