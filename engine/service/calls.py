"""What surrounds every call: parsing, identity, deadline, errors. One interceptor, so no method can forget it.

- Bytes that are no message are INVALID_ARGUMENT; gRPC itself would answer UNKNOWN with Python's text.
- Every call has a deadline: the caller's, or the cap if that is shorter or the caller gave none.
- Errors of our tree become their status; anything else is logged here and leaves as INTERNAL without details.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import ServicerContext

from engine.domain.errors import InvalidInput, Violation, WalrasError
from engine.service.identity import enter, identify
from engine.service.status import DETAILS_METADATA, status_of

log = logging.getLogger("walras.calls")
OPEN_SERVICES = ("/grpc.health.", "/grpc.reflection.")


class Malformed:
    """Stands in for a request whose bytes could not be parsed."""


class RefusedWithDetails(Exception):
    """An error of the tree together with further details for its status."""

    def __init__(self, error: WalrasError, *details: Any) -> None:
        super().__init__(error.message)
        self.error, self.details = error, details


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler but those of health and reflection."""

    def __init__(self, *, dev: bool, deadline_s_max: float) -> None:
        self._dev, self._deadline_s_max = dev, deadline_s_max
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The handler of a method, wrapped once."""
        method = handler_call_details.method
        if method.startswith(OPEN_SERVICES):
            return await continuation(handler_call_details)
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._wrapped[method] = self._wrap(handler)
        return self._wrapped[method]

    def _wrap(self, handler: Any) -> Any:
        if handler.response_streaming and handler.request_streaming:
            make, inner = grpc.stream_stream_rpc_method_handler, _written(handler.stream_stream)
        elif handler.response_streaming:
            make, inner = grpc.unary_stream_rpc_method_handler, _written(handler.unary_stream)
        elif handler.request_streaming:
            make, inner = grpc.stream_unary_rpc_method_handler, handler.stream_unary
        else:
            make, inner = grpc.unary_unary_rpc_method_handler, handler.unary_unary
        return make(
            self._guarded(inner, streaming=handler.request_streaming),
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _guarded(self, inner: Callable[[Any, Any], Awaitable[Any]], *, streaming: bool) -> Any:
        async def behave(request: Any, context: ServicerContext[Any, Any]) -> Any:
            try:
                enter(identify(context.invocation_metadata() or (), dev=self._dev))
                request = _parsed_stream(request) if streaming else _parsed(request)
                async with asyncio.timeout(self._deadline_s(context)):
                    return await inner(request, context)
            except RefusedWithDetails as refused:
                await _abort(context, *status_of(refused.error, *refused.details))
            except WalrasError as error:
                await _abort(context, *status_of(error))
            except TimeoutError:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the call's deadline has passed")
            except (asyncio.CancelledError, grpc.aio.BaseError, grpc.aio.AbortError):
                raise
            except Exception:
                log.exception("a call failed")
                await context.abort(grpc.StatusCode.INTERNAL, "internal error; nothing more is told outside")

        return behave

    def _deadline_s(self, context: ServicerContext[Any, Any]) -> float:
        remaining = context.time_remaining()
        return self._deadline_s_max if remaining is None else min(remaining, self._deadline_s_max)


def _written(stream: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Awaitable[None]]:
    """A handler that writes what an async generator yields, and closes it however the call ends."""

    async def write(request: Any, context: ServicerContext[Any, Any]) -> None:
        async with aclosing(stream(request, context)) as replies:
            async for reply in replies:
                await context.write(reply)

    return write


async def _abort(context: ServicerContext[Any, Any], code: grpc.StatusCode, message: str, details: bytes) -> None:
    await context.abort(code, message, trailing_metadata=((DETAILS_METADATA, details),))


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse(payload: bytes) -> Any:
        try:
            return deserialize(payload)
        except (DecodeError, UnicodeDecodeError):
            return Malformed()

    return parse


def _parsed(request: Any) -> Any:
    if isinstance(request, Malformed):
        raise InvalidInput([Violation("request", "is not a valid message of this method")])
    return request


async def _parsed_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _parsed(request)
