"""What settings refuse, said alike for every method: the value, and what would do.

Each takes the method's name first, so that its settings can fix it.
"""

from __future__ import annotations

from collections.abc import Collection


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
