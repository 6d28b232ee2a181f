"""The state as bytes and back, for snapshots.

A snapshot is a cache of a replay by the very same program: its format names the sources of the state machine, and
bytes of another format are not read but replayed past. So no layout has to be understood for ever.

Nothing is listed here field by field. Every field of every dataclass in the state goes through by its type; a type
that cannot is an error when it is first met, not a gap. What is not a dataclass, the inventory, has its own form
below, which a test holds against all attributes of the original.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from engine.market.apply import offer_interruptible, read_frame, take_curves, write_frame
from engine.market.inventory import Int, Inventory
from engine.market.published import MarketName, OracleState, PricePoint
from engine.market.state import MarketState

ZLIB_LEVEL = 1
SAME_MARKETS: list[MarketName] = [("", "", "")]
"""Stands for the markets of the point before: thousands of points share one list."""


class NotAState(Exception):
    """Bytes that `capture` of this program did not make."""


class _InventoryForm(msgspec.Struct, frozen=True, array_like=True):
    """What an `Inventory` is made from."""

    frame: bytes
    rtt: bytes
    leased: bytes
    held: bytes
    state: bytes
    is_priced: bool
    posted_of_market: bytes
    long_run: bytes
    half_life_h: float
    price_snapshot_id: str
    held_milli: bytes
    cpu_taken: bytes
    memory_taken: bytes
    shared_cards: bytes


@cache
def state_format() -> str:
    """Names the program whose states these are: a hash of the sources that say what a state is."""
    digest = hashlib.sha256()
    engine = Path(__file__).parents[1]
    for folder in ("domain", "market"):
        for source in sorted((engine / folder).rglob("*.py")):
            digest.update(str(source.relative_to(engine)).encode() + b"\0" + source.read_bytes())
    return f"walras-state-{digest.hexdigest()[:16]}"


def capture(state: MarketState) -> Callable[[], bytes]:
    """The state of now; what is returned gives its bytes, in any thread and however the state goes on.

    Only what changes in place is encoded at once; tables of nodes never do.
    """
    facts = {each.name: getattr(state, each.name) for each in fields(state) if each.name != "inventory"}
    facts["oracle"] = replace(state.oracle, history=deque(_shared(state.oracle.history)))
    encoded, form = _encoder.encode(facts), _form_of(state.inventory)
    return lambda: zlib.compress(_encoder.encode((encoded, form())), ZLIB_LEVEL)


def restore(content: bytes) -> MarketState:
    """The state of some bytes; raises `NotAState` on others."""
    try:
        return _restored(zlib.decompress(content))
    except (zlib.error, msgspec.MsgspecError, KeyError) as error:
        raise NotAState(str(error)) from error


def _restored(content: bytes) -> MarketState:
    encoded, form = msgspec.msgpack.decode(content, type=tuple[bytes, _InventoryForm])
    raw = msgspec.msgpack.decode(encoded, type=dict[str, msgspec.Raw])
    facts = {name: decoder.decode(raw[name]) for name, decoder in _decoders().items()}
    oracle: OracleState = facts["oracle"]
    oracle.history = deque(_unshared(oracle.history))
    state = MarketState(inventory=_inventory_of(form), **facts)
    if form.is_priced:
        offer_interruptible(state)
    return state


@cache
def _decoders() -> dict[str, msgspec.msgpack.Decoder[Any]]:
    """Of every field but the inventory."""
    return {
        name: msgspec.msgpack.Decoder(hint, dec_hook=_decode_other)
        for name, hint in get_type_hints(MarketState).items()
        if name != "inventory"
    }


def _form_of(inventory: Inventory) -> Callable[[], _InventoryForm]:
    is_priced = hasattr(inventory, "placer")
    leased, held, state = map(_packed, (inventory.leased, inventory.held, inventory.state))
    cpu_taken, memory_taken, held_milli, shared_cards = map(_packed, inventory.beside())
    posted, long_run = _packed(inventory.posted_of_market), _packed(inventory.long_run)
    frame, rtt = inventory.frame, inventory.rtt
    half_life_h, price_snapshot_id = inventory.half_life_h, inventory.price_snapshot_id

    def form() -> _InventoryForm:
        return _InventoryForm(
            frame=write_frame(frame),
            rtt=write_frame(rtt),
            leased=leased,
            held=held,
            state=state,
            is_priced=is_priced,
            posted_of_market=posted,
            long_run=long_run,
            half_life_h=half_life_h,
            price_snapshot_id=price_snapshot_id,
            held_milli=held_milli,
            cpu_taken=cpu_taken,
            memory_taken=memory_taken,
            shared_cards=shared_cards,
        )

    return form


def _inventory_of(form: _InventoryForm) -> Inventory:
    inventory = Inventory(read_frame(form.frame), read_frame(form.rtt))
    leased, held = _unpacked(form.leased), _unpacked(form.held)
    inventory.unused[:] -= leased + held
    inventory.held[:] = held
    inventory.state[:] = _unpacked(form.state)
    inventory.held_milli[:] = _unpacked(form.held_milli)
    inventory.spare.cpu_milli -= _unpacked(form.cpu_taken)
    inventory.spare.memory_mib -= _unpacked(form.memory_taken)
    inventory.spare.cards.restore(_unpacked(form.shared_cards).reshape(-1, 3))
    if form.is_priced:
        curves = _unpacked(form.posted_of_market), _unpacked(form.long_run)
        take_curves(inventory, *curves, form.half_life_h, form.price_snapshot_id)
    return inventory


def _packed(column: Int) -> bytes:
    return np.ascontiguousarray(column, dtype="<i8").tobytes()


def _unpacked(column: bytes) -> Int:
    return np.frombuffer(column, dtype="<i8").astype(np.int64)


def _shared(history: deque[PricePoint]) -> list[PricePoint]:
    points, markets = [], None
    for point in history:
        points.append(replace(point, markets=SAME_MARKETS) if point.markets is markets else point)
        markets = point.markets
    return points


def _unshared(history: deque[PricePoint]) -> list[PricePoint]:
    points: list[PricePoint] = []
    for point in history:
        points.append(replace(point, markets=points[-1].markets) if point.markets == SAME_MARKETS else point)
    return points


def _encode_other(value: Any) -> Any:
    if isinstance(value, deque):
        return list(value)
    raise NotImplementedError(f"a state holds a {type(value).__name__}, and snapshots have no form for it")


def _decode_other(kind: Any, value: Any) -> Any:
    if get_origin(kind) is deque:
        return deque(msgspec.convert(value, list[get_args(kind)[0]]))  # type: ignore[misc]
    raise NotImplementedError(f"a state holds a {kind}, and snapshots have no form for it")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
