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
    """Empty fields choose all."""

    gpu_model: str = ""
    region: str = ""
    security_tier: str = ""

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
