"""Which of several points nothing beats: the front of settings by metrics, of methods by cost."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other beats in one coordinate without losing in another.

    Larger is better in every coordinate. Of equals the earlier stays. Ordered by the first
    coordinate, the best first, then by index.
    """
    points = [tuple(point) for point in points]

    def beaten(i: int) -> bool:
        return any(
            all(a >= b for a, b in zip(other, points[i])) and (other != points[i] or j < i)
            for j, other in enumerate(points)
            if j != i
        )

    front = [i for i in range(len(points)) if not beaten(i)]
    return sorted(front, key=lambda i: (-points[i][0], i))
