"""What is known of a training on the way: which losses are kept, and what validation finds.

No torch here, so that the store may read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

POINTS = 500  # the most losses that are kept of a phase, spread evenly over its steps


def on_curve(step: int, total: int) -> bool:
    """Whether the loss after so many steps of a phase is kept; that of the last one is."""
    return step % math.ceil(total / POINTS) == 0 or step == total


@dataclass(frozen=True)
class Look:
    """The scores of a network under training, on validation samples.

    step, total: of the phase; share: of the whole training, in (0, 1], its phases counting alike
    and steps being as far apart as they can; metrics: by name
    """

    phase: str
    step: int
    total: int
    share: float
    metrics: Mapping[str, float]


def chosen(looks: Sequence[Look], metric: str) -> Look:
    """The best of the last phase, whose network is kept; of equals the latest.

    An earlier phase's choice is what the later one began with.
    """
    of_phase = [look for look in looks if look.phase == looks[-1].phase]
    return max(of_phase, key=lambda look: (_or_worst(look.metrics[metric]), look.step))


def _or_worst(value: float) -> float:
    return -math.inf if math.isnan(value) else value
