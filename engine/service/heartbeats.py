"""Heartbeats in a running engine: arrivals stay in memory, what they mean is submitted once a tick."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engine.domain.tiers import NodeState
from engine.market.commands import NoteHeartbeats
from engine.market.heartbeats import HeartbeatRules, Heartbeats
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine

Int = NDArray[np.int64]
DOWN = int(NodeState.DOWN)


class HeartbeatRunner:
    """Watches the nodes of one engine. Nodes heard before a restart are watched from its first tick on."""

    def __init__(self, engine: Engine, rules: HeartbeatRules) -> None:
        self._engine, self.heartbeats = engine, Heartbeats(rules)
        self._first: set[int] = set()
        self._is_begun = False

    def beat(self, node_ids: Iterable[str]) -> list[str]:
        """Take in heartbeats; the ids that name no node."""
        self._begin()
        number, unknown, heard = self._engine.state.inventory.number, [], set()
        for node_id in node_ids:
            node = number.get(node_id)
            if node is None:
                unknown.append(node_id)
            else:
                heard.add(node)
        nodes = np.array(sorted(heard), dtype=np.int64)
        self._first.update(self.heartbeats.beat(nodes, len(number), self._engine.now_us()).tolist())
        return unknown

    def tick(self) -> None:
        """Submit what changed since the last tick, all of it as one command; nothing if nothing did."""
        self._begin()
        state, now_us = self._engine.state, self._engine.now_us()
        silent = self.heartbeats.silent(now_us)
        lost = silent[state.inventory.state[silent] != DOWN]
        back = self.heartbeats.steady(np.array(sorted(state.liveness.lost), dtype=np.int64), now_us)
        if self._first or lost.size or back.size:
            first = np.array(sorted(self._first), dtype=np.int64)
            self._engine.submit(NoteHeartbeats(first, lost, back), NO_STOPWATCH)
            self._first.clear()

    def _begin(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            state = self._engine.state
            heard = np.array(sorted(state.liveness.heard), dtype=np.int64)
            self.heartbeats.watch(heard, len(state.inventory.number), self._engine.now_us())
