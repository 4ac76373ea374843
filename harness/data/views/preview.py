"""Some samples in a finished view, without writing it: what a method will see, and its quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.samples import Category, DataError, Ref
from harness.data.views.build import prepare
from harness.data.views.quality import Quality, judge
from harness.data.views.reference import Reference, measure
from harness.data.views.registry import builder_of
from methods.declaration import View

LOOKED_AT = 9  # training samples, for the usual plane
FINISHED_BY = 50  # training samples that stand for all in what needs all of them


@dataclass(frozen=True)
class Seen:
    arrays: dict[str, np.ndarray]
    quality: Quality


def finished(
    category: Category,
    refs: Sequence[Ref],
    view: View,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Ref, Seen | DataError]:
    """Samples as `build_view` would write them; those that cannot be made have their error.

    What needs all training samples (thresholds, ranges) is found from at most FINISHED_BY.
    """
    builder = builder_of(type(view))
    train = category.examine("train")[0]
    most = min(len(train), FINISHED_BY if builder.learn else LOOKED_AT)
    behind = [train[i * len(train) // most] for i in range(most)]
    made: dict[Ref, tuple[Reference, dict[str, np.ndarray]]] = {}
    faults: dict[Ref, Seen | DataError] = {}
    wanted = list(dict.fromkeys([*refs, *behind]))
    for done, ref in enumerate(wanted, start=1):
        try:
            sample = ref.read()
            made[ref] = (
                measure(sample, builder.frame(view, sample.mask.shape)),
                prepare(sample, view),
            )
        except DataError as fault:
            faults[ref] = fault
        report(done, len(wanted))
    chosen = {
        split: [ref for ref in of if ref in made] for split, of in (("train", behind), ("", refs))
    }
    if not chosen[""]:
        return {ref: faults[ref] for ref in refs}
    splits = {
        split: {name: np.stack([made[ref][1][name] for ref in of]) for name in made[of[0]][1]}
        for split, of in chosen.items()
        if of
    }
    learnt = builder.learn(splits["train"], view) if builder.learn and "train" in splits else {}
    if finish := builder.finish:
        for arrays in splits.values():
            finish(arrays, view, learnt)
    found = judge({split: [made[r][0] for r in chosen[split]] for split in splits}, splits, view)
    shown: dict[Ref, Seen | DataError] = {
        ref: Seen({name: array[i] for name, array in splits[""].items()}, found[""][i])
        for i, ref in enumerate(chosen[""])
    }
    return {ref: shown[ref] if ref in shown else faults[ref] for ref in refs}
