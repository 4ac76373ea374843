"""What settings refuse, said alike for every method: the value, and what would do.

Each takes the method's name first, so that its settings can fix it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

TURN_DEG = 360.0  # angles lie within one turn either way


def choose(method: str, name: str, value: object, choices: Collection[object]) -> None:
    if value not in choices:
        known = ", ".join(map(str, choices))
        raise ValueError(f"{method}.{name} is {value!r}; it can be {known}")


def odd(method: str, name: str, value: int) -> None:
    if value < 1 or value % 2 == 0:
        raise ValueError(f"{method}.{name} is {value}; it must be odd and positive")


def divisible(method: str, name: str, value_px: int, by_px: int) -> None:
    if value_px % by_px:
        raise ValueError(f"{method}.{name} is {value_px} px; it must divide by {by_px}")


def within(method: str, name: str, value: float, least: float = 0.0, most: float = 1.0) -> None:
    """Refuse a number outside its bounds, which are those of a share unless they are given."""
    if not least <= value <= most:
        raise ValueError(f"{method}.{name} is {value:g}; it must lie within {least:g} and {most:g}")


def rising(
    method: str, name: str, ends: Sequence[float], least: float = 0.0, most: float = 1.0
) -> None:
    """Refuse a range of two numbers with an end outside its bounds, or whose ends are swapped."""
    for i, end in enumerate(ends):
        within(method, f"{name}[{i}]", end, least, most)
    low, high = ends
    if low > high:
        raise ValueError(
            f"{method}.{name} is a range from {low:g} down to {high:g}; {method}.{name}[0] must "
            f"not be above {method}.{name}[1], both within {least:g} and {most:g}"
        )
