"""What surrounds every call: parsing, identity, permission, quota, deadline, errors, the audit log.

One interceptor, so no method can forget any of it.

- Bytes that are no message are INVALID_ARGUMENT; gRPC itself would answer UNKNOWN with Python's text.
- Every call has a deadline: the caller's, or the cap if that is shorter or the caller gave none.
- On an engine that follows another one only reads get through; the rest is refused with the leader's address.
- Errors of our tree become their status; anything else is logged here and leaves as INTERNAL without details.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import ServicerContext

from engine.domain.errors import (
    InvalidInput,
    NotLeader,
    Overloaded,
    Unauthenticated,
    Violation,
    WalrasError,
)
from engine.service.acts import Acts, PendingAct, host_of
from engine.service.admission import Admission
from engine.service.fair_queue import queue_full
from engine.service.identity import Identity, enter
from engine.service.plain_text import normalise
from engine.service.status import DETAILS_METADATA, status_of
from engine.trust.permissions import METHODS, authorize
from engine.trust.principal import Principal

log = logging.getLogger("walras.calls")
SLOW_READER_S, RETRY_AFTER_S = 5.0, 1.0
"""How long a stream waits for its reader to take a message."""
Handler = Callable[[Any, Any], Awaitable[Any]]
PREFIX = "/walras.v1."
OPEN_SERVICES = ("/grpc.health.", "/grpc.reflection.")
READING_VERBS = ("Get", "List", "Watch", "Explain", "Estimate")
LEADER_READS = frozenset({"GetPlan"})
"""Plans are kept in the memory of the engine that made them."""


class Malformed:
    """Stands in for a request whose bytes could not be parsed."""


class RefusedWithDetails(Exception):
    """An error of the tree together with further details for its status."""

    def __init__(self, error: WalrasError, *details: Any) -> None:
        super().__init__(error.message)
        self.error, self.details = error, details


@dataclass(frozen=True, slots=True)
class Streams:
    """Which sides of a method stream."""

    request: bool
    response: bool

    @property
    def any(self) -> bool:
        """Whether a call of it may stay open for long."""
        return self.request or self.response


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler; those of health and reflection ask nobody who calls."""

    def __init__(
        self,
        identity: Identity,
        admission: Admission,
        acts: Acts,
        *,
        deadline_s_max: float,
        redirect: Callable[[], NotLeader | None] = lambda: None,
    ) -> None:
        """`redirect`: why this engine changes nothing now, None if it may."""
        self._identity, self._admission, self._acts = identity, admission, acts
        self._deadline_s_max, self._redirect = deadline_s_max, redirect
        self._wrapped: dict[str, Any] = {}
        self._full = _refusing(queue_full())  # made once: a flood is refused by it, call after call

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The handler of a method, wrapped once; what is beyond a quota is refused before its message is read."""
        method = handler_call_details.method
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._wrapped[method] = self._wrap(handler, method)
        refusing = self._early_refusal(method, handler_call_details.invocation_metadata or ())
        return refusing or self._wrapped[method]

    def _early_refusal(self, method: str, metadata: Any) -> Any:
        """The handler that refuses a call of which no more need be known; None if there is no reason to."""
        permission = METHODS.get(method.removeprefix(PREFIX))
        try:
            principal = self._identity.remembered(metadata)
        except Unauthenticated:
            return None  # said where all refusals are said and noted
        if permission is None or principal is None:
            return None
        if self._admission.is_full(principal, permission):
            return self._full
        refusal = self._admission.over_quota(principal, permission)
        return None if refusal is None else _refusing(refusal)

    def _wrap(self, handler: Any, method: str) -> Any:
        if handler.response_streaming and handler.request_streaming:
            make, inner = grpc.stream_stream_rpc_method_handler, _written(handler.stream_stream)
        elif handler.response_streaming:
            make = grpc.unary_stream_rpc_method_handler
            inner = handler.unary_stream if _writes(handler.unary_stream) else _written(handler.unary_stream)
        elif handler.request_streaming:
            make, inner = grpc.stream_unary_rpc_method_handler, handler.stream_unary
        else:
            make, inner = grpc.unary_unary_rpc_method_handler, handler.unary_unary
        streams = Streams(handler.request_streaming, handler.response_streaming)
        if method.startswith(OPEN_SERVICES):
            behave = self._open(inner, streams)
        else:
            behave = self._guarded(inner, method.removeprefix(PREFIX), streams)
        return make(
            behave,
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _open(self, inner: Handler, streams: Streams) -> Any:
        """Health and reflection: answered to anybody, so only so often and so many at once."""

        async def behave(request: Any, context: ServicerContext[Any, Any]) -> Any:
            try:
                with self._admission.visit(host_of(context.peer() or "")):
                    deadline_s = self._deadline_s_max if streams.request else None
                    async with asyncio.timeout(deadline_s):
                        return await inner(
                            _parsed_stream(request) if streams.request else _parsed(request), context
                        )
            except (asyncio.CancelledError, grpc.aio.BaseError, grpc.aio.AbortError):
                raise
            except Exception as error:
                await _abort(context, *_status_of_any(error))
                return None

        return behave

    def _guarded(self, inner: Handler, action: str, streams: Streams) -> Any:
        async def behave(request: Any, context: ServicerContext[Any, Any]) -> Any:
            act = self._acts.begin(action, context.peer() or "")
            try:
                async with asyncio.timeout(self._deadline_s(context)):
                    reply = await self._served(inner, action, streams, request, context, act)
            except (asyncio.CancelledError, grpc.aio.BaseError, grpc.aio.AbortError):
                act.failed(request, grpc.StatusCode.CANCELLED)
                raise
            except Exception as error:
                code, message, details = _status_of_any(error)
                act.failed(request, code)
                await _abort(context, code, message, details)
                return None
            act.done(request, reply)
            return reply

        return behave

    async def _served(
        self,
        inner: Handler,
        action: str,
        streams: Streams,
        request: Any,
        context: ServicerContext[Any, Any],
        act: PendingAct,
    ) -> Any:
        """Identity, permission, a turn; then the method itself."""
        principal = await self._proven(context, act)
        authorize(principal, action)
        if not _is_read(action) and (refusal := self._redirect()) is not None:
            raise refusal
        enter(principal)
        turn = self._admission.turn(
            principal, METHODS[action], stream=streams.any, remaining_s=self._deadline_s(context)
        )
        async with turn:
            return await inner(_parsed_stream(request) if streams.request else _parsed(request), context)

    async def _proven(self, context: ServicerContext[Any, Any], act: PendingAct) -> Principal:
        metadata, handshake = context.invocation_metadata() or (), context.auth_context()
        try:
            principal = self._identity.remembered(metadata, handshake)
            if principal is None:
                self._admission.check_host(act.host)
                principal = await self._identity.identify(metadata, handshake)
        except Unauthenticated:
            self._admission.note_failed(act.host)
            raise
        act.principal = principal
        return principal

    def _deadline_s(self, context: ServicerContext[Any, Any]) -> float:
        remaining = context.time_remaining()
        return self._deadline_s_max if remaining is None else min(remaining, self._deadline_s_max)


def _is_read(method: str) -> bool:
    """Whether a method, Service/Name, only reads; unknown verbs count as changes."""
    name = method.rpartition("/")[2]
    return name.startswith(READING_VERBS) and name not in LEADER_READS


def _refusing(refusal: WalrasError) -> Any:
    """A handler of any kind of method that reads nothing and refuses."""

    status = status_of(refusal)

    async def refuse(_: Any, context: ServicerContext[Any, Any]) -> None:
        await _abort(context, *status)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _writes(behave: Any) -> bool:
    """Whether a streaming handler writes by itself (as that of health does) rather than being a generator."""
    return inspect.iscoroutinefunction(behave)


def _written(stream: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Awaitable[None]]:
    """A handler that writes what an async generator yields, and closes it however the call ends."""

    async def write(request: Any, context: ServicerContext[Any, Any]) -> None:
        async with aclosing(stream(request, context)) as replies:
            async for reply in replies:
                try:
                    async with asyncio.timeout(SLOW_READER_S):
                        await context.write(reply)
                except TimeoutError:
                    raise Overloaded("the reader of this stream is too slow", RETRY_AFTER_S) from None

    return write


def _status_of_any(error: Exception) -> tuple[grpc.StatusCode, str, bytes]:
    """(code, message, details) for the caller; what is not of our tree is told to the log only."""
    if isinstance(error, RefusedWithDetails):
        return status_of(error.error, *error.details)
    if isinstance(error, WalrasError):
        return status_of(error)
    if isinstance(error, TimeoutError):
        return grpc.StatusCode.DEADLINE_EXCEEDED, "the call's deadline has passed", b""
    log.error("a call failed", exc_info=error)
    return grpc.StatusCode.INTERNAL, "internal error; nothing more is told outside", b""


async def _abort(context: ServicerContext[Any, Any], code: grpc.StatusCode, message: str, details: bytes) -> None:
    await context.abort(code, message, trailing_metadata=((DETAILS_METADATA, details),) if details else ())


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse(payload: bytes) -> Any:
        try:
            message = deserialize(payload)
        except (DecodeError, UnicodeDecodeError):
            return Malformed()
        if not payload.isascii():
            normalise(message)
        return message

    return parse


def _parsed(request: Any) -> Any:
    if isinstance(request, Malformed):
        raise InvalidInput([Violation("request", "is not a valid message of this method")])
    return request


async def _parsed_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _parsed(request)
