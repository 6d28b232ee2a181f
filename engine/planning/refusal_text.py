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
from solvers.planning.fold import FABRIC, MODEL, SITE, SUPPLIER
from solvers.planning.problem import Problem
from solvers.planning.refusals import Reason, Refusals
from solvers.planning.scarcity import Kind, ScarceSet

Int = NDArray[np.int64]
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
    """Sentences about the refusals of one plan. `row_table` (rows, 10): `Rows.table` of the folded fleet.

    `bid_micro_usd` (requests,): max_price per GPU-hour, without any bonus.
    """

    problem: Problem
    row_table: Int
    names: Names
    bid_micro_usd: Int

    def details(self, refusals: Refusals) -> list[str]:
        """One sentence per refusal. Refusals that share a set share the words before the price."""
        told = [self.of_set(scarce) for scarce in refusals.sets]
        columns = refusals.gang, refusals.reason, refusals.scarce_set, refusals.price_to_be_served
        return [
            f"{told[at] if at >= 0 else self.without_set(gang, reason)}{self._price(gang, price)}"
            for gang, reason, at, price in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def of_set(self, scarce: ScarceSet) -> str:
        """What a scarce set proves."""
        return self._hall(scarce) if scarce.kind == Kind.HALL else self._indivisible(scarce)

    def without_set(self, gang: int, reason: int) -> str:
        """Of a request that fits nowhere at its price, or nowhere at all."""
        if reason == Reason.PRICE_TOO_LOW:
            return f"it bids {price_text(int(self.bid_micro_usd[gang]))}, less than any placement costs"
        count = int(self.problem.gangs.gpus[gang])
        gpus = "1 GPU" if count == 1 else f"{count:,} GPUs"
        kept = " at its price" if reason != Reason.NO_FEASIBLE_PLACEMENT else ""
        return f"no placement of {gpus} keeps all of its constraints{kept}, even in an empty fleet"

    def _price(self, gang: int, price: int) -> str:
        if price < 0:
            return ""
        bid = int(self.bid_micro_usd[gang])
        if price <= bid:
            return f"; at {price_text(price)} it would pay its way, but it takes all of its GPUs or none"
        return f"; it would have been served at {price_text(price)}"

    def _hall(self, scarce: ScarceSet) -> str:
        count = scarce.gangs.size
        subject = f"these {count:,} requests want" if count > 1 else "this request wants"
        dearer = (
            f", and {scarce.dearer_gpus:,} free ones that ask more than {price_text(scarce.ask_limit_micro_usd)}"
            if scarce.dearer_gpus
            else ""
        )
        elsewhere = (
            f"; all else they may use costs {price_text(scarce.elsewhere_micro_usd)} or more"
            if scarce.elsewhere_micro_usd >= 0
            else ""
        )
        what = self._described(scarce, scarce.gangs)
        return (
            f"{subject} {scarce.wanted_gpus:,} GPUs of {what}; {scarce.existing_gpus:,} exist{dearer}{elsewhere}"
        )

    def _indivisible(self, scarce: ScarceSet) -> str:
        gangs, last = self.problem.gangs, int(scarce.gangs[-1])
        others = scarce.gangs[scarce.gangs != last]
        dearer = int((gangs.value_micro_usd[others] > gangs.value_micro_usd[last]).sum())
        size = int(gangs.gpus_per_replica[last])
        free, needed = scarce.existing_gpus // size, scarce.wanted_gpus // size
        where = self._described(scarce, scarce.gangs[-1:])
        if free >= needed:
            return f"room for its {scarce.wanted_gpus:,} GPUs of {where} is free, but not within its price"
        return (
            f"{scarce.wanted_gpus:,} GPUs in whole replicas of {size:,} need free room for {needed:,} together; "
            f"the best place ({where}) has it for {free:,}, and of {others.size:,} others there {dearer:,} are "
            "worth more per GPU"
        )

    def _described(self, scarce: ScarceSet, members: Int) -> str:
        return ", ".join([self._models(scarce), *self._in_common(scarce, members), *self._places(scarce)])

    def _models(self, scarce: ScarceSet) -> str:
        models = _distinct(self.row_table[scarce.rows, MODEL])
        return " or ".join(_named(models, self.names.models)) or f"{models.size} models"

    def _in_common(self, scarce: ScarceSet, members: Int) -> Iterator[str]:
        """What every one of some members asks for at least."""
        gangs = self.problem.gangs
        for kinds, wanted, word in (
            (SecurityTier, gangs.tier, "tier"),
            (ConnectivityTier, gangs.connectivity, "connectivity"),
            (Interconnect, gangs.interconnect, "interconnect"),
        ):
            if lowest := int(wanted[members].min()):
                yield f"{word} >= {kinds(lowest).name}"
        held = int(np.bitwise_and.reduce(gangs.certifications[members]))
        if certifications := [name for bit, name in enumerate(self.names.certifications) if held >> bit & 1]:
            yield f"certified {' and '.join(certifications)}"
        if reliability := float(gangs.reliability[members].min()):
            yield f"reliability >= {reliability:g}"
        if gangs.one_fabric[members].all():
            fabrics = _distinct(self.row_table[scarce.rows, FABRIC]).size
            yield "on one fabric" if fabrics == 1 else f"each on one of {fabrics:,} fabrics"

    def _places(self, scarce: ScarceSet) -> Iterator[str]:
        """Where the rows lie, in the narrowest words that are few; and whose they are."""
        names, sites = self.names, _distinct(self.row_table[scarce.rows, SITE])
        for codes, known, word in (
            (sites, names.sites, "at"),
            (_distinct(names.site_region[sites]), names.regions, "in"),
            (_distinct(names.site_country[sites]), names.countries, "in"),
        ):
            if few := _named(codes, known):
                yield f"{word} {' or '.join(few)}"
                break
        suppliers = _distinct(self.row_table[scarce.rows, SUPPLIER])
        if suppliers.size < len(names.suppliers) and (few := _named(suppliers, names.suppliers)):
            yield f"of {' or '.join(few)}"


def price_text(micro_usd_per_gpu_hour: int) -> str:
    """A price to a hundredth of a cent, without zeros after the cents."""
    digits = f"{Decimal(micro_usd_per_gpu_hour).scaleb(-6):,.4f}"
    return f"${digits[:-2]}{digits[-2:].rstrip('0')} per GPU-hour"


def _distinct(codes: Int) -> Int:
    """Distinct codes, ascending; faster than sorting, which counts with thousands of large sets."""
    return np.flatnonzero(np.bincount(codes))


def _named(codes: Int, known: Sequence[str]) -> list[str]:
    """The names of some codes, sorted; none if they are more than `FEW`."""
    return sorted(known[code] for code in codes.tolist()) if codes.size <= FEW else []
