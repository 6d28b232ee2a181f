"""The laws of tampering: what no attack can do, and that what it does is measured on the oracle itself."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backtest import manipulation, manipulation_market
from engine.backtest.demand_step import DemandStep
from engine.backtest.manipulation import attack_seed, run_attacks
from engine.backtest.manipulation_attacks import ATTACKS, Attack, what_is_seen
from engine.backtest.manipulation_market import (
    LIST_PRICES_MICRO_USD,
    Prelude,
    PricePath,
    Stage,
    Tampered,
    prelude,
    price_path,
)
from engine.backtest.scenario import PARAMETERS
from engine.cli.main import main
from engine.oracle import epoch
from engine.oracle.references import Fault, ReferenceQuote, reference_of
from tests.full_size import size

SMALL = Stage(
    market=DemandStep(gpus=200, days=4, first_high_day=3, last_high_day=3), start_h=9, settle_h=5, follow_h=5
)
SHARE = st.sampled_from((0.0, 0.01, 0.1, 1.1, 20.0))
ANY_ATTACK = st.builds(
    Attack,
    own_leases=st.sampled_from((0.0, 0.1, 0.2)),
    in_own_name=st.booleans(),
    hidden=st.sampled_from((0.0, 0.1, 0.2)),
    burst=SHARE,
    wishes=SHARE,
    orders=SHARE,
    order_every_epoch=st.booleans(),
    lie=st.none() | st.floats(),
    sources=st.sampled_from((3, 4)),
)


@cache
def before() -> Prelude:
    return prelude(SMALL, seed=0)


def path_of(attack: Attack) -> PricePath:
    return price_path(before(), what_is_seen(attack, SMALL))


@cache
def honest() -> PricePath:
    return path_of(Attack())


@cache
def outcomes() -> dict[str, manipulation.Outcome]:
    return attack_seed(SMALL, seed=0)


def check_clip_and_bounds(path: PricePath) -> None:
    clip = math.log1p(PARAMETERS.max_change_per_hour) / 12 + 1e-12
    for name in ("posted", "floor", "cap"):
        was = getattr(path.before[-1], f"{name}_micro_usd_per_gpu_hour")
        assert np.abs(np.diff(np.log(np.append(was, path.column(name))))).max() <= clip, name
    assert (path.column("floor") <= path.column("posted")).all()
    assert (path.column("posted") <= path.column("cap")).all()


@settings(max_examples=size(5, 12), deadline=None)
@given(ANY_ATTACK)
def test_no_attack_moves_a_price_faster_than_the_clip_or_out_of_its_bounds(attack: Attack) -> None:
    """Law: whatever is bid, hidden or lied, each epoch keeps the clip, the order of bounds, and their own clip."""
    check_clip_and_bounds(path_of(attack))


def test_planted_a_wider_clip_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above fails where prices may move twice as fast."""
    monkeypatch.setattr(manipulation_market, "PARAMETERS", replace(PARAMETERS, max_change_per_hour=0.25))
    with pytest.raises(AssertionError, match="posted"):
        check_clip_and_bounds(path_of(Attack(wishes=20.0)))


@settings(max_examples=200)
@given(st.floats() | st.integers(-10, 10**13), st.permutations(LIST_PRICES_MICRO_USD[:3]), st.integers(0, 2))
def test_one_liar_of_three_moves_the_median_no_further_than_to_an_honest_price(
    lie: float, said: list[int], liar: int
) -> None:
    """Law: of three sources, one lie leaves the median between the two honest ones, or freezes; never more."""
    honest_prices = [price for index, price in enumerate(said) if index != liar]
    told = [lie if index == liar else price for index, price in enumerate(said)]
    quotes = [ReferenceQuote(f"source {index}", "H100", price, 0) for index, price in enumerate(told)]
    found = reference_of(quotes, 0, PARAMETERS)
    value = found.value_micro_usd_per_gpu_hour
    assert value is not None and min(honest_prices) <= value <= max(honest_prices)
    assert found.is_healthy or Fault.BELOW_QUORUM in found.faults


@pytest.mark.parametrize("lie", [math.nan, math.inf, 0.0, -1.0, 1e30])
def test_rubbish_from_one_of_three_freezes_and_from_one_of_four_does_nothing(lie: float) -> None:
    """Law: a source that cannot be used is no vote; with three left, no price notices."""
    frozen = path_of(Attack(lie=lie))
    held = frozen.column("posted")[: SMALL.end - SMALL.start]
    assert set(held.tolist()) == {frozen.before[-1].posted_micro_usd_per_gpu_hour}
    four, calm = path_of(Attack(lie=lie, sources=4)), path_of(Attack(lie=1.0, sources=4))
    assert four.column("posted").tolist() == calm.column("posted").tolist()


def test_self_dealing_under_ones_own_name_moves_nothing() -> None:
    """Law: a bid by who owns GPUs of the market is no demand there; under a second name it is."""
    own, second = (path_of(Attack(own_leases=0.1, in_own_name=own)) for own in (True, False))
    assert own.column("posted").tolist() == honest().column("posted").tolist()
    assert second.column("posted").mean() > honest().column("posted").mean()


def test_planted_self_dealing_that_counts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law above fails where an owner's bids count."""
    monkeypatch.setattr(epoch, "without_self_dealing", lambda bids, supply, markets: bids)
    own = path_of(Attack(own_leases=0.1, in_own_name=True))
    assert own.column("posted").tolist() != honest().column("posted").tolist()


def test_withheld_supply_never_lowers_the_price() -> None:
    """Law: less supply at the same demand clears no lower, epoch by epoch."""
    hidden = path_of(Attack(hidden=0.1))
    assert (hidden.column("clearing") >= honest().column("clearing")).all()
    assert (hidden.column("posted") >= honest().column("posted")).all()


def test_a_burst_before_one_epoch_buys_one_clip_at_most_and_more_bids_buy_no_more() -> None:
    """Law: the size of a burst is bounded by the clip; after it the price comes back."""
    small, huge = (path_of(Attack(orders=size)).column("posted") for size in (2.0, 200.0))
    assert small.tolist() == huge.tolist()
    gained = small / honest().column("posted") - 1
    assert 0 < gained[0] <= PARAMETERS.max_epoch_factor**2 - 1
    assert abs(gained[-1]) < 1e-3


def test_without_tampering_nothing_moves() -> None:
    """Law: the bench measures the attack and nothing else: none does nothing, whichever way it is spelt."""
    plain = price_path(before(), [Tampered()] * (SMALL.last - SMALL.start))
    assert plain == honest() == path_of(Attack(lie=1.0))


def test_a_released_lease_counts_as_it_was_made_or_as_it_ran() -> None:
    """Counted as made, a minute of leases moves the price for a window; counted as used, by one clip."""
    made, used = outcomes()["burst: leases, released"], outcomes()["burst: leases, released, counted as used"]
    assert made.cost_micro_usd == used.cost_micro_usd > 0
    assert made.peak > 5 * abs(used.peak)


def test_every_attack_has_a_cost_that_is_no_profit_by_sign() -> None:
    """Cost and locked money are never negative; idle GPUs and fees always cost; quotes cost nothing."""
    for name, found in outcomes().items():
        assert found.cost_micro_usd >= 0 and found.locked_micro_usd >= 0, name
        attack = ATTACKS[name]
        assert (found.cost_micro_usd > 0) == bool(attack.own_leases or attack.hidden or attack.burst_gpus), name
        assert (found.locked_micro_usd > 0) == bool(attack.own_leases or attack.burst or attack.orders), name


def test_the_table_is_the_mean_of_its_seeds_and_the_same_every_time() -> None:
    """Law: same seeds, same figures; of one seed they are its own."""
    table = run_attacks((0,), workers=1, stage=SMALL)
    assert table == {name: asdict(found) for name, found in outcomes().items()}


def test_the_command_prints_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`walras backtest --scenario manipulation`: JSON by attack, or a table; options of others are refused."""
    monkeypatch.setattr(manipulation, "Stage", lambda: SMALL)
    monkeypatch.setattr(manipulation, "attack_seed", lambda stage, seed: outcomes())
    command = ["backtest", "--scenario", "manipulation", "--seeds", "1"]
    assert main([*command, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(ATTACKS)
    assert main(command) == 0
    assert "wash leases, second name" in capsys.readouterr().out
    assert main([*command, "--days", "3"]) == 2
    assert "--days" in capsys.readouterr().err
