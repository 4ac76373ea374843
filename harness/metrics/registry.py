"""Every metric, once: formula, direction, unit, label, place in lists, what it needs, signature.

Tables, searches, comparisons and scoring read of a metric what stands here. AUPRO is a family:
`get` knows it at any limit, `aupro_0.15` and `aupro_exact_0.15`, and LIMITS are computed for every
cell. Metrics from outside join by `register`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from harness.metrics.by_image import ByImage, Totals
from harness.metrics.pixel import LIMITS, THRESHOLDS, area_to_limit
from harness.metrics.scored import Scored
from methods import code, plugins

PACKAGE = "harness.metrics"
NEEDS = SCORES, CURVES, MAPS = ("scores", "curves", "maps")
PERCENT = "%"  # unit of shares in [0, 1], which tables print in percent
_NAME = {SCORES: "i_", CURVES: "p_ or aupro_", MAPS: "p_ or aupro_"}
_TYPES = {
    "name": str, "label": str, "formula": Callable, "parts": tuple, "smaller_is_better": bool,
    "unit": str, "headline": bool, "order": tuple, "version": int,
}  # fmt: skip
_AUPRO = re.compile(r"aupro(_exact)?_(0?\.\d+|1)")


@dataclass(frozen=True)
class Metric:
    """One number about a category.

    name: "i_..." of images, "p_..." or "aupro_..." of pixels; tables find it by that
    formula: Scored -> the number, NaN where it is undefined
    needs: "scores", of images; "curves", the 100-threshold PRO curve alone; or "maps"
    signature: parts that say what exactly it is, e.g. {"curve": "roc", "thresholds": "all"}
    version: raised when the same maps and scores give another number; stored values count as
        stale then, and `relief rescore` computes them again without a fit
    weighted: the same of any weighting of the images, for intervals (influence.py). Without it a
        metric of images is computed again without each image, one of pixels has no interval
    influences: (n,) of images on it, of their parts and labels, where leaving one out tells little
    """

    registry: ClassVar[str] = "metrics"  # in a plug-in's file it is found by this
    name: str
    label: str
    formula: Callable[[Scored], float]
    needs: Literal["scores", "curves", "maps"]
    parts: tuple[tuple[str, str], ...] = ()
    smaller_is_better: bool = False
    unit: str = PERCENT
    headline: bool = False  # shown first, and where there is room for few
    order: tuple[float, ...] = (2,)  # in lists, before the name
    version: int = 1
    weighted: Callable[[Totals], np.ndarray] | None = None
    influences: Callable[[ByImage, np.ndarray], np.ndarray] | None = None

    def __post_init__(self):
        for field, kind in _TYPES.items():
            if not isinstance(value := getattr(self, field), kind):
                wanted = kind.__name__
                raise ValueError(f"{self.name}: {field} is {value!r:.60}; it must be a {wanted}")
        pairs = all(isinstance(p, tuple) and list(map(type, p)) == [str] * 2 for p in self.parts)
        if not pairs or not all(isinstance(place, int | float) for place in self.order):
            raise ValueError(f"{self.name}: parts are pairs of texts, order numbers")
        known = tuple(_NAME.get(self.needs, "").split(" or "))
        if self.needs not in NEEDS:
            raise ValueError(
                f"{self.name}: unknown needs {self.needs!r}; known: {', '.join(NEEDS)}"
            )
        if not re.fullmatch(r"[a-z][a-z0-9_.]*", self.name) or not self.name.startswith(known):
            raise ValueError(
                f"{self.name!r} is no name for a metric that needs {self.needs}: it begins with "
                f"{_NAME[self.needs]} and has a-z, 0-9, _ and . only"
            )

    @classmethod
    def stored(cls, name: str, about: Mapping[str, Any]) -> Metric:
        """What `about` says of one whose values are stored. Raises TypeError, ValueError."""
        parts = tuple((key, value) for key, value in about["parts"])
        known = dict(about) | {"parts": parts, "order": tuple(about["order"])}
        return cls(name=name, formula=_unloaded, **known)

    @property
    def about(self) -> dict[str, Any]:
        """All but its name and formula, as it is stored beside the values of one from outside."""
        known = ("label", "needs", "parts", "smaller_is_better", "unit", "headline", "order")
        return {name: getattr(self, name) for name in (*known, "version")}

    @property
    def of_images(self) -> bool:
        return self.needs == SCORES

    @property
    def sign(self) -> int:
        """Times which the larger value is the better one."""
        return -1 if self.smaller_is_better else 1

    def signature(self, resolution: int | Sequence[int] | str, mask_rule: str = ">0") -> str:
        """What exactly its number is: equal signatures may be compared, others may not.

        resolution: of maps and masks, px: 224, (400, 900) as (height, width), or a word such as
        "native" for mixed sizes. mask_rule: how mask values became {0, 1}. Neither has a part in
        a metric of images. Code of metrics that was changed here (methods/code.py) has one.
        """
        parts = dict(self.parts)
        if not self.of_images:
            sides = (resolution,) * 2 if isinstance(resolution, int) else resolution
            size = sides if isinstance(sides, str) else "x".join(map(str, sides))
            parts |= {"res": size, "mask": mask_rule}
        if changed := code.mark(code.ours().altered([PACKAGE])):
            parts["code"] = changed
        parts["v"] = str(self.version)
        return "|".join([self.name, *(f"{name}:{value}" for name, value in parts.items())])

    def comparable(self, signature: str) -> str:
        """A stored signature without the parts that this metric does not have.

        Version 0.2.0 and before named a resolution for metrics of images, too.
        """
        name, *parts = signature.split("|")
        own = {"code", *(part.split(":")[0] for part in self.signature("").split("|")[1:])}
        return "|".join([name, *(part for part in parts if part.split(":")[0] in own)])

    def stale(self, signature: str) -> bool:
        """Whether a stored value's signature is of another version or definition than this."""
        without = re.compile(r"\|(res|mask):[^|]*")
        return without.sub("", self.comparable(signature)) != without.sub("", self.signature(""))

    def shown(self, value: float | None) -> str:
        """As tables print it, without its unit; a dash where there is none."""
        if value is None or math.isnan(value):
            return "–"
        return f"{100 * value:.1f}" if self.unit == PERCENT else f"{value:.3g}"


def _unloaded(scored: Scored) -> float:
    raise ValueError("the plug-in that computes it is not loaded (--plugin)")


_METRICS: dict[str, Metric] = {}
_STORED: dict[str, Metric] = {}  # of plug-ins that are not loaded, as stored values tell of them


def register(metric: Metric) -> Metric:
    """Add a metric: from now on every cell is scored by it, and tables show it.

    Raises ValueError if another one has its name.
    """
    there = _METRICS.get(metric.name)
    if there is not None and there != metric:
        raise ValueError(f"there is a metric {metric.name!r} already ({there.label}): rename one")
    if there is None and _AUPRO.fullmatch(metric.name):
        raise ValueError(f"{metric.name!r} is AUPRO at a limit: rename it")
    _METRICS[metric.name] = metric
    return metric


def forget(name: str) -> None:
    """Take a registered metric out again."""
    _METRICS.pop(name, None)


def acquaint(about: Mapping[str, Mapping[str, Any]]) -> None:
    """Learn of metrics whose values are stored (`Metric.about`), so that tables can show them.

    They are computed for nothing: whoever has their plug-in loaded registers them.
    """
    for name, one in about.items():
        try:
            _STORED[name] = Metric.stored(name, one)
        except (KeyError, TypeError, ValueError):  # of a version that tells of them otherwise
            continue


def described(chosen: Iterable[Metric]) -> dict[str, dict[str, Any]]:
    """What is stored of those that are not Relief's own, so that values can be shown without."""
    return {m.name: m.about for m in chosen if m.name not in _OWN and not _AUPRO.fullmatch(m.name)}


def get(name: str) -> Metric:
    """The metric of that name; AUPRO at any limit. Raises ValueError for an unknown one."""
    if (found := find(name)) is None:
        known = ", ".join(metric.name for metric in known_metrics())
        raise ValueError(f"unknown metric {name!r}; known: {known}, and AUPRO at any limit")
    return found


def find(name: str) -> Metric | None:
    """As `get`; None for an unknown one, such as that of a plug-in of which nothing is stored."""
    match = _AUPRO.fullmatch(name)
    if match is None or name in _METRICS:
        return _METRICS.get(name) or _STORED.get(name)
    limit = float(match[2])
    made = _aupro(limit) if match[1] is None else _aupro_exact(limit)
    return made if made.name == name else None  # one name a limit: 0.3, not .30


def known_metrics() -> list[Metric]:
    """Those that every cell is scored by, in the order of tables."""
    return sorted(_METRICS.values(), key=lambda metric: (metric.order, metric.name))


def headlines() -> list[str]:
    """Metrics that are shown first, and where there is room for few."""
    there = sorted((_STORED | _METRICS).values(), key=lambda metric: (metric.order, metric.name))
    return [metric.name for metric in there if metric.headline]


def lacking(wanted: Sequence[Metric], signatures: Mapping[str, str]) -> list[Metric]:
    """Those that stored values lack, or have in another version. signatures: of these values"""
    return [m for m in wanted if m.name not in signatures or m.stale(signatures[m.name])]


def values_of(scored: Scored, metrics: Sequence[Metric]) -> dict[str, float]:
    """Name -> value, in one pass over what is there; one whose formula raises is left out."""
    return computed(scored, metrics)[0]


def computed(scored: Scored, metrics: Sequence[Metric]) -> tuple[dict[str, float], dict[str, str]]:
    """Name -> value; name -> why there is none, of those whose formula raises.

    These are told by a warning, too. They can be computed later from what is stored, and take no
    other with them.
    """
    found, failures = {}, {}
    for metric in metrics:
        try:
            found[metric.name] = _number(metric.formula(scored))
        except (Exception, SystemExit) as error:  # whatever a metric from outside may raise
            plugins.pass_exit(error)
            failures[metric.name] = why = plugins.told(error)
            where = scored.name or "category"
            warnings.warn(f"{where}: {metric.name} is left out: {why}", stacklevel=2)
    return found, failures


def _number(value: Any) -> float:
    """What a formula gave; NaN says that it is undefined. Raises ValueError for what is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"its formula returned {value!r:.60}, which is no number") from None
    if math.isinf(number):
        raise ValueError("its formula returned infinity; NaN says that there is no value")
    return number


def signatures(
    resolution: int | Sequence[int] | str,
    mask_rule: str = ">0",
    metrics: Sequence[Metric] | None = None,
) -> dict[str, str]:
    """Metric name -> signature, of all that every cell is scored by or of these."""
    chosen = known_metrics() if metrics is None else metrics
    return {metric.name: metric.signature(resolution, mask_rule) for metric in chosen}


def _aupro(limit: float) -> Metric:
    def formula(scored: Scored) -> float:
        fpr, pro = scored.curve
        return area_to_limit(fpr, pro, limit) if fpr.size else math.nan

    return Metric(
        name=f"aupro_{limit:g}",
        label=f"AUPRO@{limit:g}",
        formula=formula,
        needs=CURVES,
        parts=(("curve", "pro"), ("thresholds", str(THRESHOLDS)), ("conn", "8")),
        headline=limit == LIMITS[0],
        order=(0, 1) if limit == LIMITS[0] else (1, -limit, 0),
        weighted=lambda totals: totals.aupro(limit),
    )


def _aupro_exact(limit: float) -> Metric:
    return Metric(
        name=f"aupro_exact_{limit:g}",
        label=f"AUPRO@{limit:g} exact",
        formula=lambda scored: scored.pixels.aupro_exact(limit),
        needs=MAPS,
        parts=(("curve", "pro"), ("thresholds", "all"), ("conn", "8")),
        order=(1, -limit, 1),
        weighted=lambda totals: totals.aupro_exact(limit),
    )


def _separation(name: str, label: str, what: str, curve: str, place: int, **more) -> Metric:
    """AUROC, average precision or best F1, of images or of pixels.

    what: the method of a Ranking and of Totals
    """
    of_images = name.startswith("i_")
    connectivity = () if of_images else (("conn", "none"),)
    return Metric(
        name=name,
        label=label,
        formula=lambda scored: getattr(scored.images if of_images else scored.pixels, what)(),
        needs=SCORES if of_images else MAPS,
        parts=(("curve", curve), ("thresholds", "all"), *connectivity),
        order=(0, place),
        weighted=lambda totals: getattr(totals, what)(),
        **more,
    )


for _metric in (
    _separation("i_auroc", "I-AUROC", "auroc", "roc", 0, headline=True),
    _separation("p_auroc", "P-AUROC", "auroc", "roc", 2, headline=True),
    _separation("i_ap", "I-AP", "average_precision", "precision-recall", 3),
    _separation("i_f1max", "I-F1max", "f1_max", "f1", 4, influences=ByImage.influences_on_f1_max),
    _separation("p_ap", "P-AP", "average_precision", "precision-recall", 5),
    _separation("p_f1max", "P-F1max", "f1_max", "f1", 6),
    *(make(limit) for limit in LIMITS for make in (_aupro, _aupro_exact)),
):
    _METRICS[_metric.name] = _metric
_OWN = frozenset(_METRICS)
