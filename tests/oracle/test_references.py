"""The laws of references: whatever sources say, there is an answer, and it says what is wrong."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput
from engine.oracle.parameters import OracleParameters
from engine.oracle.references import Fault, Reference, ReferenceQuote, reference_of

NOW = 10**15
PARAMETERS = OracleParameters()
OLD = PARAMETERS.reference_max_age_us + 1


def quote(source: str, price: float, age_us: int = 0) -> ReferenceQuote:
    return ReferenceQuote(source, "H100", price, NOW - age_us)


def judged(*quotes: ReferenceQuote) -> Reference:
    return reference_of(quotes, NOW, PARAMETERS)


HONEST = [quote("a", 2_000_000), quote("b", 2_200_000), quote("c", 2_600_000)]
ANYTHING = st.lists(
    st.builds(
        ReferenceQuote,
        st.sampled_from("abcde"),
        st.just("H100"),
        st.floats() | st.integers(-10, 10**13),
        st.integers(NOW - 2 * OLD, NOW + 10),
    ),
    max_size=8,
)


@given(ANYTHING)
def test_any_sources_give_an_answer(quotes: list[ReferenceQuote]) -> None:
    """Law: no value crashes; a value is positive, finite and between the prices used; unhealthy says why."""
    found = judged(*quotes)
    value = found.value_micro_usd_per_gpu_hour
    assert found == judged(*reversed(quotes))
    assert (value is None) == (not found.sources)
    assert value is None or 1 <= value <= 10**11
    assert len(found.sources) + len(found.rejected) == len({each.source for each in quotes})
    assert not found.is_healthy or len(found.sources) >= PARAMETERS.quorum
    assert found.is_healthy or found.faults


@given(st.floats() | st.integers(-10, 10**13), st.permutations("abcd"))
def test_one_liar_moves_the_median_no_further_than_to_honest_prices(lie: float, names: list[str]) -> None:
    """Law: with three honest sources, a fourth keeps the reference healthy and between theirs."""
    honest = zip(names, (2_000_000, 2_200_000, 2_600_000), strict=False)
    found = judged(*(quote(*each) for each in honest), quote(names[3], lie))
    assert found.is_healthy
    assert 2_000_000 <= found.value_micro_usd_per_gpu_hour <= 2_600_000


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ([quote("c", math.nan)], Fault.NOT_A_NUMBER),
        ([quote("c", math.inf)], Fault.INFINITE),
        ([quote("c", -math.inf)], Fault.INFINITE),
        ([quote("c", 0)], Fault.NOT_POSITIVE),
        ([quote("c", -5)], Fault.NOT_POSITIVE),
        ([quote("c", 1e30)], Fault.TOO_HIGH),
        ([quote("c", 2_000_000, OLD)], Fault.STALE),
        ([quote("c", 2_000_000, -1)], Fault.FROM_THE_FUTURE),
        ([quote("c", 2_000_000), quote("c", 2_000_001)], Fault.SELF_CONTRADICTORY),
    ],
)
def test_a_bad_third_source_breaks_the_quorum_and_is_named(bad: list[ReferenceQuote], fault: Fault) -> None:
    """Law: what cannot be used is rejected with its reason, and so is the reference that needed it."""
    found = judged(*HONEST[:2], *bad)
    assert found.rejected == (("c", fault),)
    assert found.faults == (Fault.BELOW_QUORUM, fault)


def test_healthy_sources_give_their_median() -> None:
    found = judged(*HONEST, quote("a", 9_000_000, 5))
    assert (found.value_micro_usd_per_gpu_hour, found.is_healthy, found.age_us) == (2_200_000, True, 0)
    assert found.deviation == pytest.approx(2.6 / 2.2 - 1)


def test_nothing_at_all_is_unhealthy() -> None:
    found = judged()
    assert (found.value_micro_usd_per_gpu_hour, found.faults) == (None, (Fault.BELOW_QUORUM,))


def test_sources_that_disagree_are_contradictory() -> None:
    """No majority is near the median of 1, 4 and 16."""
    found = judged(quote("a", 1_000_000), quote("b", 4_000_000), quote("c", 16_000_000))
    assert (found.faults, found.deviating) == ((Fault.CONTRADICTORY,), ("a", "c"))


def test_each_source_has_its_own_age() -> None:
    parameters = OracleParameters(source_max_age_us=(("slow", 10 * OLD),))
    assert reference_of([quote("slow", 1_000_000, OLD)], NOW, parameters).sources == ("slow",)


def test_parameters_list_every_violation() -> None:
    with pytest.raises(InvalidInput) as caught:
        OracleParameters(epoch_us=0, smoothing_weight=math.nan, floor_share=0.5, cap_share=0.4, quorum=2.5)  # type: ignore[arg-type]
    assert [each.field for each in caught.value.violations] == [
        "epoch_us",
        "smoothing_weight",
        "quorum",
        "cap_share",
    ]
