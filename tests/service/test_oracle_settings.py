"""Settings of the oracle, of holds and of price sources: read, checked, all violations listed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.domain.errors import InvalidInput
from engine.service.options import ServerOptions, default_parameters, read_config
from engine.service.references import BUILT_IN, references_of
from tests.service.loopback import Book

OFFER = {"gpu_model": "H100", "vram_gb": 80, "is_spot": False, "collected_at": "2026-05-24"}


def offers(path: Path, prices: dict[str, Any]) -> Path:
    """A list of offers, a provider each."""
    rows = [{**OFFER, "provider_id": name, "price_usd_hour": usd} for name, usd in prices.items()]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def settings(path: Path, text: str) -> dict[str, Any]:
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_settings_are_taken_over(tmp_path: Path) -> None:
    """Law: what the file says replaces the default, the rest stays."""
    text = """
        oracle_tick_s = 0.5
        [oracle]
        epoch_us = 60000000
        source_max_age_us = { offers = 86400000000 }
        [holds]
        tenant_quotes_max = 2
        [[price_sources]]
        path = "offers.json"
        kind = "offers"
        source = "offers"
        by_provider = true
    """
    options = ServerOptions(**settings(tmp_path / "walras.toml", text))
    assert options.oracle is not None
    assert (options.oracle.epoch_us, options.oracle.quorum) == (60_000_000, 3)
    assert options.oracle.max_age_us("offers") == 86_400_000_000
    assert (options.holds.tenant_quotes_max, options.holds.pool_share_max) == (2, 0.5)
    assert options.price_sources[0].by_provider and options.oracle_tick_s == 0.5


def test_without_sources_one_is_enough() -> None:
    """Law: the built-in list alone makes a healthy price, whatever the time."""
    assert default_parameters(()).quorum == 1
    quotes = references_of((), Book())(["H100", "L40S"], 7)
    assert [(q.source, q.gpu_model, q.observed_at_us) for q in quotes] == [(BUILT_IN, "H100", 7)]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("[oracle]\nepoch_us = 1\nfloor_share = 7.0", ("oracle.epoch_us", "oracle.floor_share")),
        ("[oracle]\nepoch = 1\nquorum = true", ("oracle.epoch", "oracle.quorum")),
        ("[holds]\ntenant_gpus_max = -1\npool_share_max = 2.0", ("holds.tenant_gpus_max", "holds.pool_share_max")),
        ("[[price_sources]]\nkind = 3", ("price_sources.path", "price_sources.kind", "price_sources.source")),
        ('[[price_sources]]\npath="a"\nkind="b"\nsource="c"', ("price_sources.kind",)),
        ('price_sources = ["a"]', ("price_sources",)),
        ("oracle = 5", ("oracle",)),
    ],
)
def test_bad_settings_are_listed(tmp_path: Path, text: str, fields: tuple[str, ...]) -> None:
    """Law 9: every violation, by file and field."""
    with pytest.raises(InvalidInput) as caught:
        settings(tmp_path / "walras.toml", text)
    assert {f"walras.toml {field}" for field in fields} <= {each.field for each in caught.value.violations}


def test_a_list_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """Law: a changed list is taken over; one that went bad or away keeps its last prices."""
    path = offers(tmp_path / "offers.json", {"a": 2.0, "b": 3.0})
    text = f'[[price_sources]]\npath = "{path}"\nkind = "offers"\nsource = "s"\nby_provider = true'
    references = references_of(settings(tmp_path / "walras.toml", text)["price_sources"], Book())
    assert [quote.price_micro_usd_per_gpu_hour for quote in references([], 0)] == [2e6, 3e6]
    offers(path, {"a": 2.5})
    os.utime(path, ns=(1, 1))
    changed = references([], 0)
    assert [(quote.source, quote.price_micro_usd_per_gpu_hour) for quote in changed] == [("s/a", 2.5e6)]
    offers(path, {"a": -1.0})
    os.utime(path, ns=(2, 2))
    assert references([], 0) == changed
    path.unlink()
    assert references([], 0) == changed


def test_a_list_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    """Law 9: an engine does not start on a list that is wrong."""
    path = offers(tmp_path / "offers.json", {"a": 0})
    text = f'[[price_sources]]\npath = "{path}"\nkind = "offers"\nsource = "s"'
    with pytest.raises(InvalidInput):
        references_of(settings(tmp_path / "walras.toml", text)["price_sources"], Book())
