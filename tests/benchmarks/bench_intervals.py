"""How often the 95 % intervals over test images hold the truth.

    python -m tests.benchmarks.bench_intervals [scores] [maps] [means] [report]
        [--repeats 1000] [--every 1] [--seed 0]

Draws test sets from populations of which the truth is known, and prints Markdown tables of the
share of intervals that hold it, at the end by regime, as the README has them:

- scores: of image metrics, score sets of six shapes and five areas, 10 to 150 images: 180 cases;
- maps: of pixel metrics, four kinds of maps and three contrasts, 20 to 120 images: 60 cases, the
  truth from up to 150 times as many images, beside percentiles of the bootstrap over images;
- means: of means over categories, of paired differences and how often a test finds what is not;
- report: CPU seconds of the intervals of a full benchmark (made cells), and of influences.

--every 6 takes a sixth of the cases. --seed: others draw other test sets; truths stay.
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from harness.metrics import Scored, get, known_metrics, values_of
from harness.metrics.influence import influences
from harness.metrics.intervals import Error, Influence, interval, paired_difference
from harness.store import PROTOCOLS
from harness.store import influences as store_influences
from reports.numbers.evidence import read_evidence
from reports.numbers.frame import read_results, results_frame
from reports.numbers.leaderboard import boards_of_all
from reports.numbers.stores import checked
from tests.reports import fake_store

OF_IMAGES = ("i_auroc", "i_ap", "i_f1max")
OF_PIXELS = (
    "p_auroc",
    "aupro_0.3",
    "aupro_0.05",
    "aupro_exact_0.3",
    "aupro_exact_0.01",
    "p_ap",
    "p_f1max",
)
SIZES = ((4, 6), (8, 12), (10, 20), (20, 40), (22, 88), (50, 100))  # normal, defective images
MAP_SIZES = ((8, 12), (10, 20), (20, 30), (22, 88), (30, 90))
AREAS = (0.6, 0.8, 0.95, 0.99, 0.997)
CONTRASTS = (1.5, 3.0, 5.0)
SIDE = 24  # px
LARGE = 150  # times as many images as a test set has, for the truth
RESAMPLES = 200

Draw = Callable[[np.random.Generator, int, int], np.ndarray]  # normal scores first


def binormal(area: float, spread: float = 1.0) -> Draw:
    shift = norm.ppf(area) * np.hypot(1, spread)

    def draw(rng, n, m):
        return np.append(rng.normal(size=n), rng.normal(shift, spread, m))

    return draw


def skewed(area: float) -> Draw:
    def draw(rng, n, m):
        return np.append(rng.exponential(size=n), rng.exponential(area / (1 - area), m))

    return draw


def some_missed(area: float) -> Draw:
    """A share of the defective images that look normal; the rest is far off."""

    def draw(rng, n, m):
        seen = rng.random(m) >= 2 * (1 - area)
        return np.append(rng.normal(size=n), rng.normal(6 * seen, 1))

    return draw


def tied(area: float) -> Draw:
    """Binormal in steps of half a standard deviation."""
    whole = binormal(area)
    return lambda rng, n, m: np.round(2 * whole(rng, n, m))


SHAPES: dict[str, Callable[[float], Draw]] = {
    "binormal": binormal,
    "defective twice as wide": lambda area: binormal(area, 2.0),
    "defective half as wide": lambda area: binormal(area, 0.5),
    "exponential": skewed,
    "some missed": some_missed,
    "tied": tied,
}


def truth_of_scores(
    draw: Draw, normal: int, defective: int, many: int = 100_000
) -> dict[str, float]:
    """Of test sets without end, of the same share of normal images. many: normal ones of it"""
    scale = many // normal
    rng, n, m = np.random.default_rng(1), scale * normal, scale * defective
    scored = Scored(draw(rng, n, m), np.repeat([0, 1], [n, m]))
    return values_of(scored, [get(name) for name in OF_IMAGES])


def drawn_scores(draw: Draw, rng: np.random.Generator, normal: int, defective: int) -> Scored:
    return Scored(draw(rng, normal, defective), np.repeat([0, 1], [normal, defective]))


@dataclass(frozen=True)
class Kind:
    """Of maps: regions of a defective image at most, their least and largest side in px, and by
    how much the level of whole images differs.
    """

    regions: int = 3
    least: int = 2
    largest: int = 7
    level: float = 0.4


KINDS = {
    "regions": Kind(),
    "small, up to 2": Kind(2, 2, 4),
    "one big": Kind(1, 9, 15),
    "levels": Kind(level=1.2),
}


def drawn_maps(
    contrast: float,
    rng: np.random.Generator,
    normal: int,
    defective: int,
    kind: Kind = KINDS["regions"],
) -> Scored:
    """Smooth backgrounds of different level; regions of different contrast."""
    count = normal + defective
    maps = gaussian_filter(rng.normal(size=(count, SIDE, SIDE)), (0, 1.5, 1.5)) * 5
    maps += rng.normal(0, kind.level, (count, 1, 1))
    masks = np.zeros(maps.shape, bool)
    for i in range(normal, count):
        for _ in range(rng.integers(1, kind.regions + 1)):
            h, w = rng.integers(kind.least, kind.largest + 1, 2)
            y, x = rng.integers(0, SIDE - h + 1), rng.integers(0, SIDE - w + 1)
            fresh = ~masks[i, y : y + h, x : x + w]
            maps[i, y : y + h, x : x + w] += fresh * rng.normal(contrast, 1.0)
            masks[i, y : y + h, x : x + w] = True
    labels = np.repeat([0, 1], [normal, defective])
    maps = maps.astype(np.float32)
    return Scored(maps.max(axis=(1, 2)), labels, maps, masks)


@cache
def truth_of_maps(
    contrast: float,
    normal: int,
    defective: int,
    kind: Kind = KINDS["regions"],
    times: int = LARGE,
) -> dict[str, float]:
    """Of so many times as many images."""
    rng = np.random.default_rng(1)
    scored = drawn_maps(contrast, rng, times * normal, times * defective, kind)
    return values_of(scored, [get(name) for name in OF_PIXELS])


def bounds_of(scored: Scored, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The intervals as leaderboards show them."""
    metrics = [get(name) for name in names]
    values, found = values_of(scored, metrics), influences(scored, metrics)
    errors = {name: Error.of_mean([Influence.of(found[name], scored.labels)]) for name in names}
    found_of = {name: shown(name, values[name], error) for name, error in errors.items() if error}
    return {name: bounds for name, bounds in found_of.items() if bounds}


def shown(name: str, value: float, error: Error) -> tuple[float, float] | None:
    """The interval as leaderboards show it."""
    return interval(value, error, smooth=get(name).influences is None)


def percentiles_of(
    scored: Scored, names: Sequence[str], rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """The plain bootstrap: images drawn again, normal and defective apart."""
    counts = [int((scored.labels == label).sum()) for label in (0, 1)]
    drawn = [rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) for n in counts]
    totals = scored.by_image(of_images=False).weighted(np.hstack(drawn).astype(float))
    found = {name: get(name).weighted(totals) for name in names}
    return {name: tuple(np.percentile(values, [2.5, 97.5])) for name, values in found.items()}


@dataclass(frozen=True)
class Held:
    """A metric in a case: its truth, and of the test sets the shares whose interval holds it, whose
    value is 1, and whose interval holds the mean over all of them.
    """

    truth: float
    share: float
    perfect: float
    usual: float


def of_its_size(name: str) -> bool:
    """Whether its truth is the mean over test sets of that size, which more images would move.

    The first of 100 thresholds is the largest normal score, which grows with the images; and the
    best of several thresholds, chosen on the same images, is the better the fewer there are.
    """
    return name.startswith("aupro_0") or name == "i_f1max"


def held(
    draw: Callable[[np.random.Generator], Scored],
    truth: dict[str, float],
    repeats: int,
    bounds: Callable[..., dict[str, tuple[float, float]]] = bounds_of,
    seed: int = 0,
) -> dict[str, Held]:
    """By metric; where there is no interval it holds nothing."""
    rng = np.random.default_rng(seed)
    more = (np.random.default_rng(seed + 1),) * (bounds is percentiles_of)
    metrics, none = [get(name) for name in truth], (math.nan, math.nan)
    ends, values = [], []
    for _ in range(repeats):
        scored = draw(rng)
        found = bounds(scored, list(truth), *more)
        ends.append([found.get(name, none) for name in truth])
        values.append(list(values_of(scored, metrics).values()))
    return dict(zip(truth, summary(truth, np.array(ends), np.array(values))))


def summary(truth: Mapping[str, float], ends: np.ndarray, values: np.ndarray) -> list[Held]:
    """Of every metric of truth (K of them). ends (repeats, K, 2), values (repeats, K)"""
    low, high = np.moveaxis(ends, 2, 0)
    usual = values.mean(axis=0)
    at = np.where([of_its_size(name) for name in truth], usual, list(truth.values()))
    share, around = (((low <= one) & (one <= high)).mean(axis=0) for one in (at, usual))
    perfect = (values == 1).mean(axis=0)
    return [Held(*map(float, one)) for one in zip(at, share, perfect, around)]


def covered(*args, **more) -> dict[str, float]:
    """Metric -> share of the intervals that hold its truth. args, more: of `held`"""
    return {name: one.share for name, one in held(*args, **more).items()}


def some(cases: Iterable[tuple], every: int) -> list[tuple]:
    """One of so many, here and there, in their order."""
    known = list(cases)
    chosen = np.random.default_rng(0).permutation(len(known))[::every]
    return [known[i] for i in sorted(chosen)]


Found = list[tuple[str, int, Held]]  # metric, images of a test set


def scores_table(asked: argparse.Namespace) -> None:
    names = " | ".join(get(name).label for name in OF_IMAGES)
    print(f"\n| scores | truth | images | {names} |\n|---|---|---|{'---|' * len(OF_IMAGES)}")
    every: Found = []
    for shape, area, size in some(itertools.product(SHAPES, AREAS, SIZES), asked.every):
        draw = SHAPES[shape](area)
        truth = truth_of_scores(draw, *size)
        found = held(
            lambda rng: drawn_scores(draw, rng, *size), truth, asked.repeats, seed=asked.seed
        )
        every += [(name, sum(size), one) for name, one in found.items()]
        cells = " | ".join(f"{100 * found[name].share:.1f}" for name in OF_IMAGES)
        print(f"| {shape} | {area} | {size[0]} + {size[1]} | {cells} |", flush=True)
    regimes: dict[str, Callable[[int, Held], bool]] = {
        "hardly any set (< 2 %) is 1": lambda n, one: one.perfect < 0.02,
        "2 to 20 % of the sets are 1": lambda n, one: 0.02 <= one.perfect < 0.2,
        "more of them are": lambda n, one: one.perfect >= 0.2,
    }
    for name in OF_IMAGES:
        by_regime(get(name).label, [one for one in every if one[0] == name], regimes)


def maps_table(asked: argparse.Namespace) -> None:
    names = " | ".join(get(name).label for name in OF_PIXELS)
    print(f"\n| maps, contrast, images | how | {names} |\n|---|---|{'---|' * len(OF_PIXELS)}")
    every: Found = []
    for label, contrast, size in some(itertools.product(KINDS, CONTRASTS, MAP_SIZES), asked.every):
        kind = KINDS[label]
        truth = truth_of_maps(contrast, *size, kind)
        ways = {"truth": truth}
        for how, bounds in (("interval", bounds_of), ("percentiles", percentiles_of)):
            count = asked.repeats if bounds is bounds_of else asked.repeats // 5
            draw = lambda rng: drawn_maps(contrast, rng, *size, kind)  # noqa: E731
            found = held(draw, truth, count, bounds, asked.seed)
            ways[how] = {name: one.share for name, one in found.items()}
            if bounds is bounds_of:
                every += [(name, sum(size), one) for name, one in found.items()]
        for how, shares in ways.items():
            cells = " | ".join(f"{100 * shares[name]:.1f}" for name in OF_PIXELS)
            print(f"| {label}, {contrast}, {size[0]} + {size[1]} | {how} | {cells} |", flush=True)
    regimes: dict[str, Callable[[int, Held], bool]] = {
        "truth below 95 %: 20 and 30 images": lambda n, one: one.truth < 0.95 and n <= 30,
        "the same, 50 to 120 images": lambda n, one: one.truth < 0.95 and n > 30,
        "truth of 95 to 99 %": lambda n, one: 0.95 <= one.truth < 0.99,
        "truth above 99 %": lambda n, one: one.truth >= 0.99,
    }
    by_regime("seven pixel metrics", every, regimes)


def by_regime(what: str, every: Found, regimes: Mapping[str, Callable[[int, Held], bool]]) -> None:
    """usual: of the mean over test sets of that size, which is the truth only without a bias"""
    print("\n| what | cases | held, % | within 2 points | usual, % | within 2 points |")
    print("|---|---|---|---|---|---|")
    for regime, belongs in regimes.items():
        chosen = [one for _, images, one in every if belongs(images, one)]
        if chosen:
            cells = (_spread([getattr(one, of) for one in chosen]) for of in ("share", "usual"))
            print(f"| {what}, {regime} | {len(chosen)} | {' | '.join(cells)} |")


def _spread(shares: Sequence[float]) -> str:
    """Least, largest, mean, and how many are within 2 points of 95 %."""
    found = 100 * np.array(shares)
    near = 100 * float(np.mean(np.abs(found - 95) <= 2.00001))
    return f"{found.min():.1f} to {found.max():.1f}, mean {found.mean():.1f} | {near:.0f} %"


def means_table(asked: argparse.Namespace) -> None:
    """Image scores of ten categories, and paired differences between two methods."""
    repeats = asked.repeats
    print("\n| what | held, % |\n|---|---|")
    areas = (0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 0.98, 0.99)
    for name in ("i_auroc", "i_f1max"):
        label = get(name).label
        for count in (2, 5, 10):
            share = _of_mean(areas[:: 10 // count][:count], repeats, name, asked.seed)
            print(f"| mean {label} of {count} categories | {100 * share:.1f} |", flush=True)
        for better in (0.0, 0.4):
            share, found = _of_pairs(better, repeats, name, asked.seed)
            print(f"| difference of {label}, second better by {better} sd | {100 * share:.1f} |")
            print(f"| ... told apart (p < 0.05) | {100 * found:.1f} |", flush=True)
    for size in ((20, 30), (22, 88)):
        shares, found = _of_map_pairs(size, repeats // 2, asked.seed)
        for name, share in shares.items():
            label = f"difference of {get(name).label}, equal methods, {size[0]} + {size[1]}"
            told = f"{100 * share:.1f} (told apart {100 * found[name]:.1f})"
            print(f"| {label} | {told} |", flush=True)


def _known(scored: Scored, name: str) -> tuple[float, Influence]:
    """Value and influences."""
    metric = get(name)
    found = influences(scored, [metric])[name]
    return values_of(scored, [metric])[name], Influence.of(found, scored.labels)


def _of_mean(areas: Sequence[float], repeats: int, name: str, seed: int) -> float:
    rng, means, ends = np.random.default_rng(seed), [], []
    for _ in range(repeats):
        known = [_known(drawn_scores(binormal(area), rng, 22, 88), name) for area in areas]
        error = Error.of_mean([one for _, one in known])
        assert error is not None
        means.append(float(np.mean([value for value, _ in known])))
        ends.append(shown(name, means[-1], error))
    truth = np.mean(means) if of_its_size(name) else np.mean(areas)
    return float(np.mean([low <= truth <= high for low, high in ends]))


def _of_pairs(
    better: float, repeats: int, name: str, seed: int, shift: float = 1.8
) -> tuple[float, float]:
    """Share of intervals of the difference that hold it; share of p-values below 0.05."""
    rng, found = np.random.default_rng(seed), []
    n, m = 22, 88
    labels = np.repeat([0, 1], [n, m])
    shifts = (shift + better, shift)
    for _ in range(repeats):
        shared, sides = rng.normal(size=n + m), []
        for s in shifts:
            scores = shared + rng.normal(size=n + m) + s * labels
            sides.append(_known(Scored(scores, labels), name))
        (one, of_one), (other, of_other) = sides
        difference = paired_difference(one - other, [of_one], [of_other])
        assert difference is not None
        found.append((difference.value, *difference.interval(), difference.p))
    values, low, high, p = np.array(found).T
    truth = np.subtract(*(norm.cdf(s / 2) for s in shifts))  # variance 2 in either class
    truth = values.mean() if of_its_size(name) else truth
    return float(((low <= truth) & (truth <= high)).mean()), float((p < 0.05).mean())


def _of_map_pairs(size: tuple[int, int], repeats: int, seed: int) -> tuple[dict, dict]:
    """Two methods on the same images, whose maps share half their variance."""
    rng = np.random.default_rng(seed)
    names = ("p_auroc", "aupro_0.3", "aupro_exact_0.01")
    metrics = [get(name) for name in names]
    held, told = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for _ in range(repeats):
        base = drawn_maps(3.0, rng, *size)
        values, found = [], []
        for _ in "ab":
            noise = gaussian_filter(rng.normal(size=base.maps.shape), (0, 1.5, 1.5)) * 5
            contrast = np.where(base.masks, rng.normal(0, 0.7, (len(noise), 1, 1)), 0)
            maps = (base.maps + noise + contrast).astype(np.float32)
            scored = Scored(maps.max(axis=(1, 2)), base.labels, maps, base.masks)
            values.append(values_of(scored, metrics))
            found.append(influences(scored, metrics))
        for name in names:
            one, other = ([Influence.of(f[name], base.labels)] for f in found)
            difference = paired_difference(values[0][name] - values[1][name], one, other)
            assert difference is not None
            low, high = difference.interval()
            held[name] += low <= 0 <= high
            told[name] += difference.p < 0.05
    return {k: v / repeats for k, v in held.items()}, {k: v / repeats for k, v in told.items()}


METHODS = ("dbrn", "3dsr", "das3d", "m3dm", "shape_guided")
SETTINGS = ("rgb", "3d", "rgb+3d")


def report_table(asked: argparse.Namespace) -> None:
    """Five methods, three settings, 20 categories of 110 images, three seeds: 900 cells."""
    print("\n| what | CPU s |\n|---|---|")
    for side in (224, 800):
        rng = np.random.default_rng(0)
        maps = rng.random((110, side, side), dtype=np.float32)
        masks = np.zeros(maps.shape, bool)
        masks[22:, 20:60, 30:60] = True
        scored = Scored(maps.max(axis=(1, 2)), np.repeat([0, 1], [22, 88]), maps, masks)
        metrics = [metric for metric in known_metrics() if not metric.of_images]
        for what, run in (("metrics", values_of), ("influences", influences)):
            since = time.process_time()
            run(scored, metrics)
            print(
                f"| {what}, 110 maps of {side} px | {time.process_time() - since:.2f} |", flush=True
            )
    with tempfile.TemporaryDirectory() as folder:
        fake_store.TEST[:] = [("good", 22), *((kind, 22) for kind in "abcd")]
        categories = [f"c{i:02d}" for i in range(20)]
        choices = {"methods": [(m, "") for m in METHODS], "settings": SETTINGS, "seeds": (0, 1, 2)}
        store, launch = fake_store.build_launch(
            Path(folder), **choices, categories=categories, views=False, arrays=False
        )
        for record in store.results():
            labels = record.scores()["label"].to_numpy()
            cell = dict(record.spec.values)
            kept = fake_store.influences_for(cell, dict(record.values), labels)
            store_influences.keep(record, kept)
        since = time.process_time()
        results = read_results(store, launch)
        frames = {p: results_frame(store, launch, results, p) for p in PROTOCOLS}
        print(f"| reading {len(results)} records | {time.process_time() - since:.1f} |", flush=True)
        since, read_once = time.process_time(), checked(store)
        evidence = {p: read_evidence(read_once, frame) for p, frame in frames.items()}
        print(
            f"| reading and computing influences | {time.process_time() - since:.1f} |", flush=True
        )
        for what, given in (("with intervals and tests", evidence), ("without", None)):
            since = time.process_time()
            boards = boards_of_all(frames, given)
            took = time.process_time() - since
            print(f"| {len(boards)} leaderboards {what} | {took:.1f} |", flush=True)


def main() -> None:
    parts = {"scores": scores_table, "maps": maps_table, "means": means_table}
    tables(parts | {"report": report_table}, list(parts), repeats=1000, every=1)


def tables(
    parts: Mapping[str, Callable[[argparse.Namespace], None]],
    usual: list[str],
    repeats: int,
    every: int,
) -> None:
    """Make those that the command line asks for. usual: the parts if it names none"""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=usual)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--every", type=int, default=every)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for part, run in parts.items():
        if part in asked.parts:
            since = time.process_time()
            run(asked)
            print(f"\n{part}: {time.process_time() - since:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
