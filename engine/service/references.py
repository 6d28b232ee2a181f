"""Where reference prices come from: files that the operator names, or else the built-in list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.datasets.price_sources import ListedPrice, PriceListKind, read_price_list
from engine.domain.cluster_request import text_problem
from engine.domain.errors import InvalidInput, Violation
from engine.domain.tiers import SecurityTier
from engine.market.prices import PriceBook
from engine.oracle.references import ReferenceQuote

log = logging.getLogger("walras.references")
BUILT_IN = "BUILT_IN"
References = Callable[[Sequence[str], int], Sequence[ReferenceQuote]]
_FIELDS: dict[str, tuple[type, ...]] = {
    "path": (str,),
    "kind": (str,),
    "source": (str,),
    "observed_at_us": (int,),
    "by_provider": (bool,),
}


@dataclass(frozen=True, slots=True)
class PriceSource:
    """One price list; see `engine.datasets.price_sources.read_price_list`."""

    path: Path
    kind: PriceListKind
    source: str
    observed_at_us: int | None = None
    by_provider: bool = False


def price_source(raw: object, name: str) -> PriceSource:
    """A `[[price_sources]]` table of the settings; InvalidInput lists what is wrong."""
    prefix = f"{name} price_sources"
    if not isinstance(raw, dict):
        raise InvalidInput([Violation(prefix, "must be tables")])
    found = [Violation(f"{prefix}.{field}", "is not an option") for field in sorted(raw.keys() - _FIELDS.keys())]
    found += [
        Violation(f"{prefix}.{field}", f"must be given as {kinds[0].__name__}")
        for field, kinds in _FIELDS.items()
        if (field in raw or field in ("path", "kind", "source")) and type(raw.get(field)) not in kinds
    ]
    if not found and raw["kind"] not in list(PriceListKind):
        found.append(Violation(f"{prefix}.kind", f"must be one of {', '.join(PriceListKind)}"))
    if not found and (problem := text_problem(raw["source"])):
        found.append(Violation(f"{prefix}.source", problem))
    if found:
        raise InvalidInput(found)
    return PriceSource(**{**raw, "path": Path(raw["path"]), "kind": PriceListKind(raw["kind"])})


def references_of(sources: Sequence[PriceSource], book: PriceBook) -> References:
    """The named lists, each read again when its file changes; without any, the book's own prices.

    InvalidInput if a list cannot be read now. One that cannot be read later keeps its prices, which grow stale.
    """
    if not sources:
        return lambda models, now_us: _built_in(book, models, now_us)
    lists = [_WatchedList(source) for source in sources]
    return lambda models, now_us: [ReferenceQuote(*price) for each in lists for price in each.prices()]


def _built_in(book: PriceBook, models: Sequence[str], now_us: int) -> list[ReferenceQuote]:
    """The book's prices. They are a setting, not an observation, so they do not age."""
    listed = ((model, book.price_micro_usd(model, SecurityTier.VERIFIED)) for model in models)
    return [ReferenceQuote(BUILT_IN, model, float(price), now_us) for model, price in listed if price is not None]


class _WatchedList:
    """A price list that is read when its file has changed."""

    def __init__(self, source: PriceSource) -> None:
        self._source = source
        self._stamp, self._prices = self._seen(), self._read()

    def prices(self) -> list[ListedPrice]:
        """The prices of the last state of the file that could be read."""
        stamp = self._seen()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._prices = self._read()
            except InvalidInput as error:
                log.warning("the price list %s cannot be used: %s", self._source.source, error)
        return self._prices

    def _seen(self) -> Any:
        try:
            status = self._source.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> list[ListedPrice]:
        source = self._source
        return read_price_list(source.path, source.kind, source.source, source.observed_at_us, source.by_provider)
