"""Calls that would be answered too late are refused, and one slow call does not shut the door for good."""

from __future__ import annotations

import pytest

from engine.domain.errors import Overloaded
from engine.service.admission import MARGIN, RETRY_AFTER_S_MIN, Admission


def slow(took_s: float) -> Admission:
    admission = Admission()
    for _ in range(100):
        admission.note(took_s)
    return admission


def test_a_new_method_takes_every_call() -> None:
    Admission().admit(0.0)


def test_without_a_deadline_nobody_is_too_late() -> None:
    slow(1.0).admit(None)


@pytest.mark.parametrize("remaining_s", [MARGIN * 1.01, 30.0])
def test_a_call_with_time_left_is_taken(remaining_s: float) -> None:
    slow(1.0).admit(remaining_s)


def test_a_call_that_would_be_late_is_told_when_to_come_back() -> None:
    with pytest.raises(Overloaded) as refused:
        slow(1.0).admit(1.0)
    assert refused.value.retry_after_s == pytest.approx(MARGIN, rel=0.01)
    with pytest.raises(Overloaded) as refused:
        slow(0.01).admit(0.001)
    assert refused.value.retry_after_s == RETRY_AFTER_S_MIN


def test_law_a_patient_caller_is_taken_in_the_end() -> None:
    admission, refusals = slow(60.0), 0
    while True:
        try:
            admission.admit(0.1)
            break
        except Overloaded:
            refusals += 1
    assert refusals < 100
