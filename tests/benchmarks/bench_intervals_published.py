"""How often the 95 % intervals hold the truth on test sets of the published sizes.

    python -m tests.benchmarks.bench_intervals_published [scores] [maps]
        [--repeats 400] [--every 4] [--seed 0]

Test sets of all ten categories of a dataset, as many images each as it has, and the intervals of
every category and of the mean over the ten, as leaderboards show them. Prints Markdown:

- scores: of image metrics. The areas are those that a method's own paper prints for its full
  method (21 rows of MVTec 3D-AD and Eyecandies); each is drawn from five shapes of scores;
- maps: of pixel metrics. Kinds and contrasts of maps take turns from category to category.

--every 4 takes a fourth of the rows and shapes. --seed: others draw other test sets; truths stay.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics import Scored, get, values_of
from harness.metrics.influence import influences
from harness.metrics.intervals import Error, Influence
from reports.numbers.data import GOOD, PUBLISHED, published_facts
from reports.numbers.published import published
from tests.benchmarks.bench_intervals import (
    KINDS,
    OF_IMAGES,
    OF_PIXELS,
    SHAPES,
    Draw,
    Found,
    Held,
    by_regime,
    drawn_maps,
    drawn_scores,
    shown,
    some,
    summary,
    tables,
    truth_of_maps,
    truth_of_scores,
)

SPREADS = (
    "binormal",
    "defective twice as wide",
    "defective half as wide",
    "exponential",
    "some missed",
)
MANY = 20_000  # normal images for a truth: its error is a thirtieth of a category's
TIMES = 50  # as many images for a truth of maps: its error is a seventh of a category's
NEARLY = 0.9995  # of an area that is printed as 1.000
CONTRASTS = (2.5, 3.5, 5.0)  # AUPRO@0.3 of .78 to .98, as in the papers
BY_TRUTH: dict[str, Callable[[int, Held], bool]] = {
    "truth below 95 %": lambda n, one: one.truth < 0.95,
    "truth of 95 to 99 %": lambda n, one: 0.95 <= one.truth < 0.99,
    "truth above 99 %": lambda n, one: one.truth >= 0.99,
}


@dataclass(frozen=True)
class Category:
    """Of a made benchmark: how a test set of it is drawn, and what is true of it."""

    draw: Callable[[np.random.Generator], Scored]
    truth: dict[str, float]


def sizes_of(dataset: str) -> dict[str, tuple[int, int]]:
    """Category -> normal and defective test images."""
    tests = {
        name: facts.counts["test"]
        for (of, name), facts in published_facts().items()
        if of == dataset
    }
    return {name: (test[GOOD], sum(test.values()) - test[GOOD]) for name, test in tests.items()}


def printed_areas() -> dict[tuple[str, str, str], dict[str, float]]:
    """(dataset, setting, method) -> category -> I-AUROC, as the method's own paper prints it."""
    frame = published()
    own = (frame["method_key"] == frame["source"]) & (frame["variant"] == "")
    frame = frame[own & (frame["metric"] == "i_auroc") & (frame["category"] != "mean")]
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in frame.itertuples():
        found.setdefault((row.dataset, row.setting, row.source), {})[row.category] = row.value
    return dict(sorted(found.items()))


def held_together(
    categories: Sequence[Category], names: Sequence[str], repeats: int, seed: int
) -> tuple[list[dict[str, Held]], dict[str, Held]]:
    """By metric: of every category, and of the mean over them."""
    rng, metrics = np.random.default_rng(seed), [get(name) for name in names]
    values = np.empty((repeats, len(categories) + 1, len(names)))  # the last one is the mean
    ends = np.full((*values.shape, 2), np.nan)
    for i in range(repeats):
        known: list[list[Influence]] = []
        for c, category in enumerate(categories):
            scored = category.draw(rng)
            values[i, c] = [*values_of(scored, metrics).values()]
            found = influences(scored, metrics)
            known.append([Influence.of(found[name], scored.labels) for name in names])
        values[i, -1] = values[i, :-1].mean(axis=0)
        for k, name in enumerate(names):
            parts = [one[k] for one in known]
            for c, of in enumerate([*([part] for part in parts), parts]):
                error = Error.of_mean(of)
                bounds = shown(name, float(values[i, c, k]), error) if error else None
                ends[i, c, k] = bounds or (np.nan, np.nan)
    truths = [{name: one.truth[name] for name in names} for one in categories]
    truths.append({name: float(np.mean([one[name] for one in truths])) for name in names})
    held = [
        dict(zip(names, summary(truth, ends[:, c], values[:, c]))) for c, truth in enumerate(truths)
    ]
    return held[:-1], held[-1]


def of_scores(draw: Draw, size: tuple[int, int]) -> Category:
    return Category(lambda rng: drawn_scores(draw, rng, *size), truth_of_scores(draw, *size, MANY))


def scores_tables(asked: argparse.Namespace) -> None:
    sizes = {dataset: sizes_of(dataset) for dataset in PUBLISHED}
    single: Found = []
    means: Found = []
    rows = itertools.product(printed_areas().items(), SPREADS)
    for ((dataset, setting, method), areas), shape in some(rows, asked.every):
        categories = [
            of_scores(SHAPES[shape](min(area, NEARLY)), sizes[dataset][name])
            for name, area in areas.items()
        ]
        each, whole = held_together(categories, OF_IMAGES, asked.repeats, asked.seed)
        images = [sum(sizes[dataset][name]) for name in areas]
        single += [(k, n, one[k]) for n, one in zip(images, each) for k in OF_IMAGES]
        means += [(k, sum(images), whole[k]) for k in OF_IMAGES]
        told = ", ".join(f"{get(k).label} {100 * whole[k].share:.1f}" for k in OF_IMAGES)
        print(f"{dataset} {setting} {method}, {shape}: mean of ten held, %: {told}", flush=True)
    for name in OF_IMAGES:
        label = get(name).label
        by_regime(f"{label} of a category", [one for one in single if one[0] == name], BY_TRUTH)
        of_means = [one for one in means if one[0] == name]
        by_regime(f"mean {label} of ten", of_means, BY_TRUTH)


def maps_tables(asked: argparse.Namespace) -> None:
    single: Found = []
    means: Found = []
    turns = list(itertools.islice(zip(itertools.cycle(KINDS), itertools.cycle(CONTRASTS)), 10))
    for dataset in PUBLISHED:
        sizes = list(sizes_of(dataset).values())
        categories = [
            Category(
                lambda rng, c=contrast, s=size, k=KINDS[kind]: drawn_maps(c, rng, *s, k),
                truth_of_maps(contrast, *size, KINDS[kind], TIMES),
            )
            for size, (kind, contrast) in zip(sizes, turns)
        ]
        each, whole = held_together(categories, OF_PIXELS, asked.repeats, asked.seed)
        single += [(k, sum(size), one[k]) for size, one in zip(sizes, each) for k in OF_PIXELS]
        means += [(k, 0, whole[k]) for k in OF_PIXELS]
        told = (
            f"{get(k).label} {100 * one.truth:.1f}: {100 * one.share:.1f}"
            for k, one in whole.items()
        )
        print(f"{dataset}, mean of ten, truth and how often held, %: {', '.join(told)}", flush=True)
    by_regime("seven pixel metrics of a category", single, BY_TRUTH)
    by_regime("means of seven pixel metrics over ten", means, BY_TRUTH)


def main() -> None:
    parts = {"scores": scores_tables, "maps": maps_tables}
    tables(parts, list(parts), repeats=400, every=4)


if __name__ == "__main__":
    main()
