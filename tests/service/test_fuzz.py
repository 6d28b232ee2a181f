"""Whatever arrives, the answer is typed and the loop is free again (law 9). `make fuzz` does it for longer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from engine.service.calls import Malformed, _tolerant
from engine.service.plain_text import normalise
from tests.full_size import size
from tests.service import fuzz
from tests.service.access_rows import ROWS
from tests.service.access_world import NAMES, AccessWorld
from tests.service.described import all_methods, invoke, message_class
from tests.service.loopback import cluster, node, refusal_of, refused
from tests.service.mutations import NESTED, bounded

PARSED, HANDLED = size(4_000, 100_000), size(460, 5_000)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccessWorld]:
    world = AccessWorld(tmp_path_factory.mktemp("fuzz"))
    yield world
    world.close()


def test_mutated_messages_are_parsed_or_malformed(world: AccessWorld) -> None:
    """The parser answers with a message or with Malformed, never otherwise; both happen."""
    outcomes = fuzz.parse(fuzz.mutators(world, random.Random(2)), PARSED)
    assert set(outcomes) == {"parsed", "malformed"} and min(outcomes.values()) > PARSED / 20


def test_mutated_messages_get_documented_answers(world: AccessWorld) -> None:
    """No status outside the table, for any of them."""
    draw = random.Random(3)
    outcomes = fuzz.handle(world, fuzz.mutators(world, draw), HANDLED, draw)
    assert outcomes["INVALID_ARGUMENT"] and outcomes["OK"]


def test_planted_parser_that_lets_python_through(world: AccessWorld) -> None:
    """A planted bug, a handler without the tolerant parser, would not stay unseen: the parser raises."""
    kind = message_class(all_methods()["ClusterService/GetLease"].input_type)
    with pytest.raises(Exception, match=r".*") as raised:
        kind.FromString(b"\x0a\xff\x01abc")
    assert not isinstance(raised.value, AssertionError)
    assert isinstance(_tolerant(kind.FromString)(b"\x0a\xff\x01abc"), Malformed)


@pytest.mark.parametrize("method", ROWS)
def test_every_field_at_its_boundaries(world: AccessWorld, method: str) -> None:
    """Every numeric and text field, alone, at its boundary values: a documented answer, a named field if bad."""
    row, described = ROWS[method], all_methods()[method]
    role = row.roles.split()[0]
    base = row.call(world.own(role, row.identifiers.values())).SerializeToString()
    metadata = world.bearer(role, NAMES[role]).metadata
    cases = list(bounded(described.input_type, base))
    for path, value, payload in cases[:: size(5, 1) if len(cases) > 100 else 1]:
        answer = _outcome(world, described, payload, metadata)
        told = f"{method} {path} = {str(value)[:40]!r}: {answer}"
        if not isinstance(answer, str):
            assert answer.code in fuzz.DOCUMENTED, told
            assert answer.code is not grpc.StatusCode.INVALID_ARGUMENT or answer.fields, told


def _outcome(world: AccessWorld, method: Any, payload: bytes, metadata: Any) -> Any:
    """ "OK", or the refusal."""
    watched = method.server_streaming and not method.client_streaming
    try:
        invoke(world.channel, method, [payload], metadata, fuzz.WATCHED_S if watched else 30.0)
    except grpc.RpcError as error:
        return refusal_of(error)
    except StopIteration:
        pass
    return "OK"


def test_messages_nested_150_deep(world: AccessWorld) -> None:
    """150 messages inside one another, more than the parser goes down, are bad input and cost nothing."""
    for method in ("ClusterService/DeployCluster", "ClusterService/QuoteCluster", "PlanService/RunPlan"):
        answer = _outcome(world, all_methods()[method], NESTED, world.mine.metadata)
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT


def test_what_looks_alike_is_alike(world: AccessWorld) -> None:
    """Text is brought into NFC once: a name in either form is the same key, the same node, the same label."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    request = cluster(request_id=decomposed, regions=["x", decomposed])
    normalise(request)
    assert (request.request_id, request.regions[1]) == (composed, composed)
    first = world.mine.deploy(gpu_count=1, gpu_models=["A100"], key=decomposed)
    assert world.mine.deploy(gpu_count=1, gpu_models=["A100"], key=composed).name == first.name
    operator = world.bearer("operator", "root")
    operator.load([node("n1", gpu_model=decomposed)])
    assert operator.node("nodes/n1").gpu_model == composed
    assert refused(operator.load, [node(decomposed), node(composed)]).code is grpc.StatusCode.INVALID_ARGUMENT
