"""Refusals in words: one sentence for each, the same for the same numbers.

A scarce set is told by its numbers and by what its requests have in common; what they do not share is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from engine.domain.tiers import ConnectivityTier, Interconnect, SecurityTier
from engine.planning.scarce_survey import Least, Spread, least_of, spread_of
from solvers.planning.problem import Problem
from solvers.planning.refusals import Reason, Refusals
from solvers.planning.scarcity import Kind, ScarceSet

Int = NDArray[np.int64]
LEASED = "; it would fit if the leases and held quotes outside this plan ended"
FEW = 3
"""So many names are listed; of more, their number is given (models) or nothing is said (places)."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the codes of a problem stand for. `site_region`, `site_country` (sites,): codes."""

    models: Sequence[str]
    sites: Sequence[str]
    regions: Sequence[str]
    countries: Sequence[str]
    suppliers: Sequence[str]
    certifications: Sequence[str]
    site_region: Int
    site_country: Int


@dataclass(frozen=True, slots=True)
class RefusalTexts:
    """Sentences about the refusals of one plan. `row_table` (rows, 11): `Rows.table` of the folded fleet.

    `bid_micro_usd` (requests,): max_price per GPU-hour, without any bonus.
    """

    problem: Problem
    row_table: Int
    names: Names
    bid_micro_usd: Int

    def details(self, refusals: Refusals) -> list[str]:
        """One sentence per refusal. Refusals that share a set share the words before the price."""
        told = list(self._of_sets(refusals.sets))
        columns = refusals.gang, refusals.reason, refusals.scarce_set, refusals.price_alone
        return [
            f"{told[at] if at >= 0 else self.without_set(gang, reason)}{self._price(gang, price)}"
            for gang, reason, at, price in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def _of_sets(self, sets: Sequence[ScarceSet]) -> Iterator[str]:
        """What each scarce set proves."""
        names = self.names
        least = least_of(sets, self.problem.gangs)
        spread = spread_of(sets, least.one_fabric, self.row_table, names.site_region, names.site_country)
        models, places, owners = _models(spread, names), _places(spread, names), _owners(spread, names)
        for number, scarce in enumerate(sets):
            common = _in_common(least, spread, number, names)
            what = ", ".join(filter(None, [models[number], *common, places[number], owners[number]]))
            yield self._hall(scarce, what) if scarce.kind == Kind.HALL else self._indivisible(scarce, what)

    def without_set(self, gang: int, reason: int) -> str:
        """Of a request that fits nowhere at its price, or nowhere at all."""
        if reason == Reason.PRICE_TOO_LOW:
            return f"it bids {price_text(int(self.bid_micro_usd[gang]))}, less than any placement costs"
        kept = " at its price" if reason != Reason.NO_FEASIBLE_PLACEMENT else ""
        all_of_it = f"no placement of {self._whole(gang)} on what this plan may give"
        return f"{all_of_it} keeps all of its constraints{kept}, even if nothing else were placed"

    def _whole(self, gang: int) -> str:
        """What a request asks for in all."""
        gangs = self.problem.gangs
        count = int(gangs.gpus[gang])
        gpus = "1 GPU" if count == 1 else f"{count:,} GPUs"
        return gpus if gangs.needs is None or not gangs.needs.gpu_milli[gang] else self._replica(gang)

    def _replica(self, gang: int) -> str:
        """What one replica of a request needs of its node, beside whole GPUs too."""
        gangs, needs = self.problem.gangs, self.problem.gangs.needs
        size = int(gangs.gpus_per_replica[gang])
        if needs is None:
            return f"{size:,} GPUs"
        milli = int(needs.gpu_milli[gang])
        gpus = f"{milli} thousandths of a GPU" if milli else "1 GPU" if size == 1 else f"{size:,} GPUs"
        cpu, memory = int(needs.cpu_milli[gang]), int(needs.memory_mib[gang])
        beside = [f"{cpu:,} thousandths of a core"] * (cpu > 0) + [f"{memory:,} MiB"] * (memory > 0)
        return " with ".join([gpus, " and ".join(beside)]) if beside else gpus

    def _gpus(self, units: int) -> str:
        """GPUs that are counted in units of the problem."""
        whole = units / self.problem.milli
        return f"{whole:,.3f}".rstrip("0").rstrip(".")

    def _price(self, gang: int, price: int) -> str:
        if price < 0:
            return ""
        bid = int(self.bid_micro_usd[gang])
        if price <= bid:
            return f"; at {price_text(price)} it would pay its way, but it takes all of its GPUs or none"
        return f"; at this plan's prices it would pay {price_text(price)}"

    def _hall(self, scarce: ScarceSet, what: str) -> str:
        count = scarce.gangs.size
        subject = f"these {count:,} requests want" if count > 1 else "this request wants"
        limit = price_text(scarce.ask_limit_micro_usd)
        dearer = (
            f", and {self._gpus(scarce.dearer_gpus)} free ones that ask more than {limit}"
            if scarce.dearer_gpus
            else ""
        )
        elsewhere = (
            f"; all else they may use costs {price_text(scarce.elsewhere_micro_usd)} or more"
            if scarce.elsewhere_micro_usd >= 0
            else ""
        )
        return (
            f"{subject} {self._gpus(scarce.wanted_gpus)} GPUs of {what}; {self._gpus(scarce.existing_gpus)} "
            f"exist{dearer}{elsewhere}"
        )

    def _indivisible(self, scarce: ScarceSet, where: str) -> str:
        gangs, last = self.problem.gangs, int(scarce.gangs[-1])
        others = scarce.gangs[scarce.gangs != last]
        dearer = int((gangs.value_micro_usd[others] > gangs.value_micro_usd[last]).sum())
        size = int(gangs.gpus_per_replica[last])
        free, needed = scarce.existing_gpus // size, scarce.wanted_gpus // size
        needs = gangs.needs
        if needs is not None and (needs.gpu_milli[last] or needs.cpu_milli[last] or needs.memory_mib[last]):
            return (
                f"{needed:,} times {self._replica(last)} ({where}) is not free together within its price; of "
                f"{others.size:,} others there {dearer:,} are worth more per GPU"
            )
        if free >= needed:
            return f"room for its {scarce.wanted_gpus:,} GPUs of {where} is free, but not within its price"
        return (
            f"{scarce.wanted_gpus:,} GPUs in whole replicas of {size:,} need free room for {needed:,} together; "
            f"the best place ({where}) has it for {free:,}, and of {others.size:,} others there {dearer:,} are "
            "worth more per GPU"
        )


def _models(spread: Spread, names: Names) -> list[str]:
    """The models of each set, or how many they are."""
    counts = np.count_nonzero(spread.models, axis=1).tolist()
    named = _named(spread.models, names.models)
    return [few or f"{count} models" for few, count in zip(named, counts, strict=True)]


def _in_common(least: Least, spread: Spread, number: int, names: Names) -> Iterator[str]:
    """What every request of a set asks for at least."""
    for kinds, wanted, word in (
        (SecurityTier, least.tier, "tier"),
        (ConnectivityTier, least.connectivity, "connectivity"),
        (Interconnect, least.interconnect, "interconnect"),
    ):
        if lowest := int(wanted[number]):
            yield f"{word} >= {kinds(lowest).name}"
    held = int(least.certifications[number])
    if certifications := [name for bit, name in enumerate(names.certifications) if held >> bit & 1]:
        yield f"certified {' and '.join(certifications)}"
    if reliability := float(least.reliability[number]):
        yield f"reliability >= {reliability:g}"
    if least.one_fabric[number]:
        fabrics = int(spread.fabrics[number])
        yield "on one fabric" if fabrics == 1 else f"each on one of {fabrics:,} fabrics"


def _places(spread: Spread, names: Names) -> list[str]:
    """Where the rows of each set lie, in the narrowest words that are few."""
    narrowest_first = zip(
        _named(spread.sites, names.sites),
        _named(spread.regions, names.regions),
        _named(spread.countries, names.countries),
        strict=True,
    )
    return [
        f"at {site}" if site else f"in {region or country}" if region or country else ""
        for site, region, country in narrowest_first
    ]


def _owners(spread: Spread, names: Names) -> list[str]:
    """Whose the rows of each set are, unless everybody has some."""
    not_all = np.count_nonzero(spread.suppliers, axis=1, keepdims=True) < len(names.suppliers)
    return [owned and f"of {owned}" for owned in _named(spread.suppliers & not_all, names.suppliers)]


def price_text(micro_usd_per_gpu_hour: int) -> str:
    """A price to a hundredth of a cent, without zeros after the cents."""
    digits = f"{Decimal(micro_usd_per_gpu_hour).scaleb(-6):,.4f}"
    return f"${digits[:-2]}{digits[-2:].rstrip('0')} per GPU-hour"


def _named(seen: NDArray[np.bool_], known: Sequence[str]) -> list[str]:
    """The names of the codes of each set, sorted and joined; none if they are more than `FEW`."""
    named: list[list[str]] = [[] for _ in seen]
    for number, code in np.argwhere(seen & (np.count_nonzero(seen, axis=1, keepdims=True) <= FEW)).tolist():
        named[number].append(known[code])
    return [" or ".join(sorted(each)) for each in named]
