"""Refusals with their explanations or their verdicts, each worked out once for as long as nothing changes.

An explanation counts the whole fleet several times. Who is refused for lack of capacity often asks again at once,
and so do others: a flood of equal requests on a full model would keep the loop busy with one answer.
"""

from __future__ import annotations

from typing import Any

from walras.v1 import cluster_service_pb2 as pb

from engine.domain.cluster_request import ClusterRequest, wish_of
from engine.domain.errors import Refused
from engine.market.explain import explain_refusal, verdict_on
from engine.market.state import MarketState
from engine.service.calls import RefusedWithDetails
from engine.service.cluster_codec import explanation_message

KEPT_MAX = 256

Wish = tuple[Any, ...]


class Refusals:
    """Of one engine."""

    def __init__(self) -> None:
        self._version = -1
        self._known: dict[Wish, tuple[str, str, pb.Explanation]] = {}
        self._verdicts: dict[Wish, tuple[str, str]] = {}

    def explained(self, state: MarketState, request: ClusterRequest, refusal: Refused) -> RefusedWithDetails:
        """The refusal of a request with what `explain_refusal` says of it on this state."""
        wish = self._wish(state, request, refusal)
        if wish not in self._known:
            found = explain_refusal(state, request, refusal)
            self._known[wish] = found.reason, found.detail, explanation_message(found)
        reason, detail, message = self._known[wish]
        return RefusedWithDetails(Refused(reason, detail, **refusal.metadata), message)

    def told(self, state: MarketState, request: ClusterRequest, refusal: Refused) -> Refused:
        """The same refusal without its details, which take most of the time."""
        wish = self._wish(state, request, refusal)
        if wish not in self._verdicts:
            self._verdicts[wish] = verdict_on(state, request, refusal)
        return Refused(*self._verdicts[wish], **refusal.metadata)

    def _wish(self, state: MarketState, request: ClusterRequest, refusal: Refused) -> Wish:
        """What equal refusals have in common; those of another state are forgotten."""
        if state.version != self._version or len(self._known) + len(self._verdicts) >= KEPT_MAX:
            self._version, self._known, self._verdicts = state.version, {}, {}
        return *wish_of(request), refusal.reason, refusal.message
