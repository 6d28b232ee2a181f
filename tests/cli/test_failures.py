"""Every error has an exit code and says what went wrong; none shows a traceback."""

from __future__ import annotations

import inspect
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from walras.v1 import cluster_service_pb2

from engine.cli.failures import EXIT_BY_STATUS, failure_of, report
from engine.domain import errors
from engine.journal import CorruptJournal

DETAILS = "grpc-status-details-bin"


class FailedCall(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """A call that ended in a status, as a client sees it."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Any, trailer: bytes | None = None) -> None:
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        self._code, self._message = code, message
        self._trailer = trailer if trailer is not None else status.SerializeToString()

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> Any:
        return ((DETAILS, self._trailer),)

    def _unused(self, *_: Any) -> Any:
        raise NotImplementedError

    initial_metadata = is_active = time_remaining = cancel = add_callback = _unused


def info(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="walras")


def test_every_status_has_an_exit_code() -> None:
    assert set(EXIT_BY_STATUS) == {code.name for code in grpc.StatusCode}


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_a_status_without_details_is_still_said(code: grpc.StatusCode) -> None:
    failure = failure_of(FailedCall(code, "so it is", trailer=b""))
    assert failure.exit_code == EXIT_BY_STATUS[code.name]
    assert "so it is" in "\n".join(failure.lines)


def test_bad_input_lists_every_violation() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="cluster.gpu_count", description="is required")
    bad.field_violations.add(field="cluster.regions[2]", description="must be text")
    failure = failure_of(FailedCall(grpc.StatusCode.INVALID_ARGUMENT, "bad", info("INVALID_INPUT"), bad))
    assert failure.exit_code == 2
    said = "\n".join(failure.lines)
    assert "cluster.gpu_count: is required" in said and "cluster.regions[2]: must be text" in said


def test_a_refusal_is_a_no_with_its_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    explanation = cluster_service_pb2.Explanation(
        reason="MAX_CLIENT_RTT_MS", detail="too few are near", gpu_count=16, gpus_free=1_234
    )
    explanation.constraints.add(
        constraint="regions", gpus_alone=900, gpus_cumulative=900, gpus_without=8, exact=True
    )
    explanation.constraints.add(constraint="max_client_rtt_ms", gpus_alone=8, gpus_cumulative=8, gpus_without=900)
    explanation.relaxations.add(
        field="max_client_rtt_ms", from_value="30", to_value="41", total_micro_usd=2_310_000
    )
    explanation.relaxations.add(
        field="min_security_tier", from_value="SECURE", to_value="VERIFIED", total_micro_usd=9_000_000
    )
    code = report(
        FailedCall(grpc.StatusCode.FAILED_PRECONDITION, "too few are near", info("MAX_CLIENT_RTT_MS"), explanation)
    )
    said = capsys.readouterr()
    assert code == 1 and said.out == ""
    assert "refused: MAX_CLIENT_RTT_MS: too few are near" in said.err
    assert "raise max_client_rtt_ms from 30 to 41: $2.31" in said.err
    assert "change min_security_tier from SECURE to VERIFIED: $9.00" in said.err
    assert "≤ 8" in said.err and "1,234 free" in said.err


def test_too_much_says_when_to_try_again() -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000))
    failure = failure_of(FailedCall(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", info("OVERLOADED"), retry))
    assert failure.exit_code == 3
    assert "after 1.5 s" in failure.lines[1]


def test_details_that_contradict_the_status_are_left_out() -> None:
    other = status_pb2.Status(code=5, message="else").SerializeToString()
    failure = failure_of(FailedCall(grpc.StatusCode.INTERNAL, "inner", trailer=other))
    assert failure.exit_code == 3 and "inner" in failure.lines[0]


OWN_ERRORS: dict[type[errors.WalrasError], tuple[errors.WalrasError, int]] = {
    errors.WalrasError: (errors.WalrasError("x"), 3),
    errors.InvalidInput: (errors.InvalidInput([errors.Violation("a", "b")]), 2),
    errors.Unauthenticated: (errors.Unauthenticated("x"), 3),
    errors.PermissionDenied: (errors.PermissionDenied("x"), 1),
    errors.NotFound: (errors.NotFound("x"), 1),
    errors.IdempotencyConflict: (errors.IdempotencyConflict("x"), 3),
    errors.Refused: (errors.Refused("R", "x"), 1),
    errors.InsufficientFunds: (errors.InsufficientFunds("x"), 1),
    errors.QuoteUnusable: (errors.QuoteUnusable("Q", "x"), 1),
    errors.Overloaded: (errors.Overloaded("x", 1.0), 3),
    errors.Unavailable: (errors.Unavailable("x"), 3),
    errors.NotLeader: (errors.NotLeader("x", "host:1"), 3),
    errors.OutOfRange: (errors.OutOfRange("x"), 3),
    errors.AuditFailed: (errors.AuditFailed("x"), 3),
}


def test_every_error_of_this_process_has_an_exit_code() -> None:
    def is_error(value: object) -> bool:
        return inspect.isclass(value) and issubclass(value, errors.WalrasError)

    assert set(OWN_ERRORS) == {kind for _, kind in inspect.getmembers(errors, is_error)}
    for error, code in OWN_ERRORS.values():
        assert failure_of(error).exit_code == code, type(error)
    assert failure_of(CorruptJournal("x", 3)).exit_code == 3


def test_the_unexpected_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WALRAS_DEBUG", raising=False)
    assert report(KeyError("boom")) == 3
    said = capsys.readouterr().err
    assert "KeyError: 'boom'" in said and "Traceback" not in said
    monkeypatch.setenv("WALRAS_DEBUG", "1")
    report(KeyError("boom"))
    assert "KeyError" in capsys.readouterr().err


def test_an_answer_that_cannot_be_written_is_no_bad_input() -> None:
    assert failure_of(OSError(28, "No space left on device")).exit_code == 3


def test_a_file_that_cannot_be_written_is_bad_input() -> None:
    failure = failure_of(PermissionError(13, "Permission denied", "/nowhere"))
    assert failure.exit_code == 2 and failure.lines == ("/nowhere: Permission denied",)
