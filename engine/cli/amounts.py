"""Money and times as people read and write them. Nothing is computed from the texts made here."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_TOTAL_MICRO_USD


def usd(micro_usd: int) -> str:
    """Dollars and cents; below a dollar as many digits as there are, so that a small amount is never 0.00."""
    amount = Decimal(micro_usd).scaleb(-6)
    if abs(amount) >= 1 or micro_usd == 0:
        return _dollars(amount, f"{abs(amount):,.2f}")
    digits = f"{abs(amount):.6f}".rstrip("0")
    whole, _, cents = digits.partition(".")
    return _dollars(amount, f"{whole}.{cents:0<2}")


def exact_usd(micro_usd: int) -> str:
    """Dollars to the last micro-dollar, cents at least: for books, where nothing may be rounded."""
    amount = Decimal(micro_usd).scaleb(-6)
    whole, _, digits = f"{abs(amount):,.6f}".partition(".")
    return _dollars(amount, f"{whole}.{digits.rstrip('0'):0<2}")


def usd_per_gpu_hour(micro_usd_per_gpu_hour: int) -> str:
    """A price to a hundredth of a cent."""
    amount = Decimal(micro_usd_per_gpu_hour).scaleb(-6)
    return _dollars(amount, f"{abs(amount):,.4f}")


def average_price_micro_usd(rate_micro_usd_per_hour: int, gpus: int) -> int:
    """The average price per GPU-hour behind a rate, to the nearest micro-dollar; 0 without GPUs."""
    return (2 * rate_micro_usd_per_hour + gpus) // (2 * gpus) if gpus else 0


def micro_usd_of(text: str) -> int:
    """Dollars as somebody wrote them; InvalidInput if they are not exact to the micro-dollar, or no amount."""
    try:
        micro = Decimal(text.removeprefix("$").replace(",", "")).scaleb(6)
        exact = micro.is_finite() and micro == int(micro)
    except (InvalidOperation, ValueError):
        exact = False
    if not exact or not 0 < micro <= MAX_TOTAL_MICRO_USD:
        raise InvalidInput([Violation("USD", f"must be dollars to the micro-dollar, got {text[:40]!r}")])
    return int(micro)


def milliseconds(microseconds: float) -> str:
    """A wall time; three digits below a tenth of a millisecond."""
    value = microseconds / 1_000
    return f"{value:.3f} ms" if value < 0.1 else f"{value:,.1f} ms"


def duration(seconds: int) -> str:
    """Hours where the seconds are whole hours, else hours, minutes and seconds."""
    hours, rest = divmod(seconds, 3_600)
    if not rest:
        return f"{hours:,} h"
    minutes, seconds = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{value:,} {unit}" for value, unit in parts if value)


def moment(time_us: int) -> str:
    """A time in UTC, to the second; a dash for none."""
    if not time_us:
        return "-"
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def percent(part: int, whole: int) -> str:
    """A share, to a tenth of a percent; a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _dollars(amount: Decimal, digits: str) -> str:
    return f"-${digits}" if amount < 0 else f"${digits}"
