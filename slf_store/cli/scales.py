"""Conditional scales as they are written on a command line: 0, 1,2,4, 0:8:0.5."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

MOST = 1000
"""Scales of one command; more are a slip of the pen."""
LARGEST = 1000


def parse_scales(given: Sequence[str]) -> list[float]:
    """Scales in the order given, without those that are there twice.

    >>> parse_scales(["0", "1,2", "2:3:0.5"])
    [0.0, 1.0, 2.0, 2.5, 3.0]

    Raises:
        ValueError: one is no number, negative, or a range that never ends.
    """
    found: dict[float, None] = {}
    for part in (part.strip() for text in given for part in text.split(",")):
        found |= dict.fromkeys(map(float, _range(part) if ":" in part else [_number(part, part)]))
        if len(found) > MOST:
            raise ValueError(f"{part!r} makes more than {MOST} scales")
    return list(found)


def _range(part: str) -> list[Decimal]:
    """FIRST:LAST:STEP, both ends included; exact, as decimal numbers are."""
    numbers = [_number(text, part) for text in part.split(":")]
    if len(numbers) != 3:
        raise ValueError(f"{part!r} is no range; write FIRST:LAST:STEP, e.g. 0:8:0.5")
    first, last, step = numbers
    if step == 0 or last < first:
        raise ValueError(f"{part!r}: a range goes upwards, in steps above 0")
    count = int((last - first) / step) + 1
    if count > MOST:
        raise ValueError(f"{part!r} makes more than {MOST} scales")
    return [first + step * n for n in range(count)]


def _number(text: str, part: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(f"{part!r} is no number; write 0, 1,2,4 or 0:8:0.5") from None
    if not number.is_finite() or not 0 <= number <= LARGEST or len(number.as_tuple().digits) > 15:
        raise ValueError(f"{part!r}: a conditional scale is a number from 0 to {LARGEST}")
    return number
