"""Every method × every identifier × every credential, generated from the service descriptors (law 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from walras.v1.fleet_service_pb2 import ReportHeartbeatsRequest
from walras.v1.fleet_service_pb2_grpc import FleetServiceStub

from engine.trust import permissions
from engine.trust.permissions import METHODS, Permission
from tests.service.access_rows import NO_IDENTIFIERS, ROWS
from tests.service.access_world import NAMES, AccessWorld
from tests.service.described import all_methods, field_paths, set_path
from tests.service.loopback import Refusal
from tests.trust.issuer import Issuer, bad_tokens

ROLES = tuple(NAMES)
KINDS = tuple(bad_tokens(Issuer(), "tenant", "alice"))
Status = grpc.StatusCode


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccessWorld]:
    world = AccessWorld(tmp_path_factory.mktemp("access"))
    yield world
    world.close()


def test_every_method_has_a_row() -> None:
    """A new method fails here until it has a row in the engine's table and one in the tests' own."""
    methods = set(all_methods())
    assert methods - set(METHODS) == set(), "these methods have no row in engine/trust/permissions.py"
    assert methods - set(ROWS) == set(), "these methods have no row in tests/service/access_rows.py"
    assert set(METHODS) | set(ROWS) == methods, "these rows are of no method"


@pytest.mark.parametrize("method", all_methods())
def test_every_text_field_is_judged(method: str) -> None:
    """A new text field fails here until it is said what kind of object it names, or that it names none."""
    named = ROWS[method].identifiers if method in ROWS else {}
    for path, field in field_paths(all_methods()[method].input_type):
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            known = path in named or field.name in NO_IDENTIFIERS
            assert known, f"{method} {path}: name it in ROWS, or in NO_IDENTIFIERS if it names no object"


def test_a_method_without_a_row_is_nobodys(monkeypatch: pytest.MonkeyPatch, world: AccessWorld) -> None:
    """Default deny: without its row a method is refused to every role."""
    method = "FleetService/GetFleetStats"
    monkeypatch.delitem(METHODS, method)
    for role in ROLES:
        refusal = world.answer(method, ROWS[method].call({}), world.bearer(role, NAMES[role]).metadata)
        assert refusal.code is Status.PERMISSION_DENIED


@pytest.mark.parametrize("method", ROWS)
def test_who_proves_nothing_gets_nothing(world: AccessWorld, method: str) -> None:
    """No credential, and every kind of bad one, for every role's name: UNAUTHENTICATED, and nothing changes."""
    row, before = ROWS[method], world.hash()
    for role in row.roles.split():
        message = row.call(_any_ids(world))
        for kind, token in {"none": None, **bad_tokens(world.issuer, role, NAMES[role])}.items():
            metadata = () if token is None else (("authorization", f"Bearer {token}"),)
            refusal = world.answer(method, message, (*metadata, ("x-walras-tenant", "alice")))
            assert isinstance(refusal, Refusal) and refusal.code is Status.UNAUTHENTICATED, (method, kind, refusal)
            assert (refusal.reason, refusal.fields) == ("UNAUTHENTICATED", ()), (method, kind)
            assert NAMES[role] not in refusal.message or NAMES[role] in ("root", "h1"), (method, kind)
    assert world.hash() == before


def _any_ids(world: AccessWorld) -> dict[str, str]:
    return {**world.foreign, "node": "nodes/h1", "node_id": "h1", "supplier_id": "acme"}


@pytest.mark.parametrize("method", ROWS)
def test_roles(world: AccessWorld, method: str) -> None:
    """A verified credential of the wrong role is PERMISSION_DENIED whatever it names, and changes nothing."""
    row, before = ROWS[method], world.hash()
    for role in set(ROLES) - set(row.roles.split()):
        answers = []
        for ids in (_any_ids(world), {kind: world.missing(name) for kind, name in _any_ids(world).items()}):
            refusal = world.answer(method, row.call(ids), world.bearer(role, NAMES[role]).metadata)
            assert isinstance(refusal, Refusal) and refusal.code is Status.PERMISSION_DENIED, (role, refusal)
            answers.append(refusal)
        assert answers[0] == answers[1]
    assert world.hash() == before


CELLS = [
    (method, role, path, kind)
    for method, row in ROWS.items()
    for role in row.roles.split()
    for path, kind in row.identifiers.items()
]


@pytest.mark.parametrize(("method", "role", "path", "kind"), CELLS, ids=[" ".join(cell[:3]) for cell in CELLS])
def test_what_is_not_ones_own_is_missing(world: AccessWorld, method: str, role: str, path: str, kind: str) -> None:
    """Another's object answers exactly like one that is not there, in code, text, details and size."""
    row, me = ROWS[method], world.bearer(role, NAMES[role])
    for name in world.others(role, kind):
        before, answers = world.hash(), []
        for identifier in (name, world.missing(name)):
            message = row.call({**_any_ids(world), kind: identifier})
            set_path(message, path, identifier)
            answer = world.answer(method, message, me.metadata)
            if path in row.confined:
                answers.append(answer)
                continue
            assert isinstance(answer, Refusal) and answer.code is Status.NOT_FOUND, (identifier, answer)
            answers.append((answer.message.replace(identifier, "?"), answer.wire_bytes, _rest(answer)))
        if path in row.confined:
            assert answers[0].code is Status.INVALID_ARGUMENT, row.confined[path]
            assert "bolt" not in answers[0].message
        else:
            assert answers[0] == answers[1]
            assert world.hash() == before


def _rest(answer: Refusal) -> tuple[Any, ...]:
    return answer.code, answer.reason, answer.domain, answer.fields, answer.metadata, answer.explanation


@pytest.mark.parametrize("method", ROWS)
def test_ones_own_is_there_and_tells_of_nobody_else(world: AccessWorld, method: str) -> None:
    """Whoever may call reaches what is its own, and no byte of any answer names the other tenant."""
    row = ROWS[method]
    for role in row.roles.split():
        answer = world.answer(
            method, row.call(world.own(role, row.identifiers.values())), world.bearer(role, NAMES[role]).metadata
        )
        assert isinstance(answer, list), (role, answer)
        assert all(b"secretbob" not in reply for reply in answer)


@pytest.mark.parametrize(("role", "own"), [("node", "h1"), ("supplier", "h3"), ("operator", "h2")])
def test_heartbeats_count_for_ones_own_nodes_only(world: AccessWorld, role: str, own: str) -> None:
    """Law 8: ids of other suppliers' nodes come back as unknown, like ids that nothing has."""
    sent = [own, "nothing", *world.others(role, "node_id")]
    request = ReportHeartbeatsRequest(node_ids=sent)
    metadata = world.bearer(role, NAMES[role]).metadata
    reply = FleetServiceStub(world.channel).ReportHeartbeats(request, metadata=metadata)
    assert sorted(reply.unknown_node_ids) == sorted(sent[1:])


def test_planted_authorize_that_allows_all(monkeypatch: pytest.MonkeyPatch, world: AccessWorld) -> None:
    """A planted bug, an authorize that lets everybody pass, is seen by the rows of roles and of nodes."""
    from engine.service import calls, fleet_access

    for module in (calls, fleet_access):
        monkeypatch.setattr(module, "authorize", lambda *_: None)
    with pytest.raises(AssertionError):
        test_roles(world, "OracleService/ListPrices")
    with pytest.raises(AssertionError):
        test_what_is_not_ones_own_is_missing(world, "FleetService/GetNode", "supplier", "name", "node")


def test_permissions_say_what_the_rows_say() -> None:
    """The engine's table and the tests' own agree on roles."""
    for method, row in ROWS.items():
        own: Permission = permissions.METHODS[method]
        assert {role.value for role in own.roles} == set(row.roles.split()), method
