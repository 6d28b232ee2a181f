"""Which markets a price command is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.option_groups import OptionGroup

if TYPE_CHECKING:
    from walras.v1 import oracle_service_pb2


@dataclass(frozen=True, slots=True)
class MarketChoice:
    """Empty fields choose all. InvalidInput for a tier that there is not; models and regions are the fleet's."""

    gpu_model: str = ""
    region: str = ""
    security_tier: str = ""

    def __post_init__(self) -> None:
        """Tiers are told apart by case, as everywhere."""
        from engine.domain.errors import InvalidInput, Violation
        from engine.domain.tiers import SecurityTier

        if self.security_tier and self.security_tier not in SecurityTier.__members__:
            known = ", ".join(SecurityTier.__members__)
            told = f"must be one of {known}, got {self.security_tier[:40]!r}"
            raise InvalidInput([Violation("--security-tier", told)])

    def has(self, price: oracle_service_pb2.MarketPrice) -> bool:
        """Whether the market of a price is among the chosen."""
        wanted = ("gpu_model", self.gpu_model), ("region", self.region), ("security_tier", self.security_tier)
        return all(value in ("", getattr(price, name)) for name, value in wanted)


def _option(text: str) -> tuple[Any, str]:
    return Annotated[str, typer.Option(help=text, rich_help_panel="Markets", show_default=False)], ""


PLACES = {
    "region": _option("Only this region."),
    "security_tier": _option("Only this tier: COMMUNITY, VERIFIED, SECURE or CONFIDENTIAL."),
}
chooses_place = OptionGroup(parameter="choice", options=PLACES, build=lambda given: MarketChoice("", **given))
chooses_markets = OptionGroup(
    parameter="choice",
    options={"gpu_model": _option("Only this GPU model."), **PLACES},
    build=lambda given: MarketChoice(**given),
)
