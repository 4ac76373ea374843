"""Qualitative sheets: what the methods saw and what they answered, one sheet a category.

Which images: for every defect type, `good` included, the one in the middle of the test order, or
by another rule of `choice`; nobody picks. A method is shown by its first seed. The colours of one
column span one range,
the 1st to 99.9th percentile of that cell's stored maps, so brightness compares within a column.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
import pandas as pd

from harness.metrics.ranking import auroc
from harness.store import DamagedError, Record, Results
from harness.store.prepared import INDEX, MASK, Prepared
from harness.store.records import Maps
from reports.numbers.choice import MIDDLE, chosen
from reports.numbers.frame import printable
from reports.numbers.names import setting_order
from reports.numbers.stores import Checked, checked

TILE = 128  # px, side of a picture
QUALITY = 85  # of JPEG, 0 to 100
MANY, LOWER = 1000, 50  # with so many maps the quality is lower, and the page stays small
CONTOUR = (255, 255, 0)  # BGR; cyan, a hue the colour map does not have


@dataclass(frozen=True)
class Column:
    """One method's maps in one setting."""

    method: str
    variant: str
    setting: str


@dataclass(frozen=True)
class Picture:
    """A test image, as data URIs; None where the store has no such picture."""

    id: str
    defect: str
    rgb: str | None
    depth: str | None
    truth: str | None
    maps: tuple[str | None, ...]  # one a column
    scores: tuple[float, ...]  # the method's image scores, one a column; NaN if unknown


@dataclass(frozen=True)
class DefectRow:
    """I-AUROC of each defect type against the good images, mean over seeds; NaN if undefined."""

    column: Column
    values: dict[str, float]


@dataclass(frozen=True)
class Sheet:
    dataset: str
    category: str
    columns: tuple[Column, ...] = ()
    pictures: tuple[Picture, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)  # test images by defect type
    defects: tuple[DefectRow, ...] = ()
    note: str = ""

    @property
    def widest(self) -> int:
        """Columns of the setting that has most."""
        return max(Counter(column.setting for column in self.columns).values(), default=0)


def sheets(
    frame: pd.DataFrame,
    store: Results,
    results: dict[str, Record],
    scores: dict[str, pd.DataFrame],
    show: Sequence[str] = (MIDDLE,),
) -> list[Sheet]:
    """One sheet for every dataset and category of the frame, in its order.

    show: rules (RULES) and ids of images
    """
    store = checked(store)
    rows = frame.groupby(["dataset", "category", "method", "variant", "setting"]).ngroups
    quality = LOWER if rows * 6 * len(show) > MANY else QUALITY  # six kinds of images or so
    return [
        _sheet(dataset, category, cells, store, results, scores, show, quality)
        for (dataset, category), cells in frame.groupby(["dataset", "category"], sort=False)
    ]


def _sheet(
    dataset: str,
    category: str,
    cells: pd.DataFrame,
    store: Checked,
    results: dict[str, Record],
    scores: dict[str, pd.DataFrame],
    show: Sequence[str],
    quality: int,
) -> Sheet:
    done = cells[cells["key"].isin(list(scores))].copy()
    if done.empty:
        return Sheet(dataset, category, note="No cell of this category is finished.")
    done["order"] = [setting_order(setting) for setting in done["setting"]]
    done = done.sort_values("order", kind="stable")

    names = ["method", "variant", "setting"]
    groups = {
        Column(*name): list(of_column.sort_values("seed")["key"])
        for name, of_column in done.groupby(names, sort=False)
    }
    firsts = [keys[0] for keys in groups.values()]
    answers = [_Answers(store, results[key]) for key in firsts]
    listed, tables = scores[firsts[0]], [scores[key] for key in firsts]
    stored = set().union(*(answer.ids for answer in answers))
    pictures = tuple(
        _picture(row.id, row.defect, answers, tables, quality)
        for row in chosen(listed, tables, show, stored).itertuples()
    )
    return Sheet(
        dataset,
        category,
        tuple(groups),
        pictures,
        {str(defect): int(n) for defect, n in listed["defect"].value_counts(sort=False).items()},
        tuple(_defect_row(c, [scores[key] for key in keys]) for c, keys in groups.items()),
        _missing(pictures, answers),
    )


def _defect_row(column: Column, seeds: list[pd.DataFrame]) -> DefectRow:
    values: dict[str, list[float]] = {}
    for scores in seeds:
        normal = scores["label"].to_numpy() == 0
        defects, score = scores["defect"].to_numpy(object), scores["score"].to_numpy()
        for kind in dict.fromkeys(defects[~normal]):
            values.setdefault(kind, []).append(auroc(score[normal], score[defects == kind]))
    return DefectRow(column, {kind: float(np.mean(found)) for kind, found in values.items()})


def _missing(pictures: tuple[Picture, ...], answers: list[_Answers]) -> str:
    if damage := dict.fromkeys(printable(answer.damage) for answer in answers if answer.damage):
        return f"The prepared images of this category are damaged: {'; '.join(damage)}."
    if all(p.rgb is None and p.depth is None and p.truth is None for p in pictures):
        return "The prepared images of this category are not in the store (any more)."
    return ""


class _Answers:
    """Stored maps of a cell and the prepared images it saw, opened when asked for."""

    def __init__(self, store: Checked, record: Record):
        self.record, self.store = record, store
        key = record.spec.needs.view
        view = store.result(key) if key else None
        self.damage = view.reason if view and not view.done else ""
        self.of_view = view if view and view.done else None
        self.view = Prepared(view.folder / "test") if view and view.done else None

    @cached_property
    def _maps(self) -> Maps:
        return self.record.maps() or Maps((), np.zeros((0, 1, 1), np.float32))

    @cached_property
    def _range(self) -> tuple[float, float]:
        maps = self._maps.values
        step = max(1, maps.shape[-1] // 64)  # a sparse grid of pixels is enough for percentiles
        seen = np.nan_to_num(maps[:, ::step, ::step].astype(np.float32))
        low, high = np.quantile(seen, [0.01, 0.999])
        return low, high

    @property
    def ids(self) -> set[str]:
        """Of the images whose maps are stored."""
        return set(self._maps.ids)

    def map(self, id: str) -> np.ndarray | None:
        """The map in [0, 1], scaled by the cell's range."""
        if (row := self._maps.at.get(id)) is None:
            return None
        low, high = self._range
        values = np.nan_to_num(self._maps.values[row].astype(np.float32))
        return np.clip((values - low) / max(high - low, 1e-12), 0, 1)

    def seen(self, name: str, id: str) -> np.ndarray | None:
        """rgb, depth or mask of the prepared image."""
        if self.view is None or not self.view.exists or not self._whole(name):
            return None
        if id not in self.view.at:
            return None
        array = self.view.array(name)
        return None if array is None else np.array(array[self.view.at[id]])

    def _whole(self, name: str) -> bool:
        """Whether the index and an array of the view are what its job wrote."""
        if not self.damage and self.of_view is not None:
            try:
                self.store.check(self.of_view, f"test/{INDEX}", f"test/{name}.npy")
            except DamagedError as error:
                self.damage = self.store.note(error).reason
        return not self.damage


def _picture(
    id: str, defect: str, answers: list[_Answers], scores: list[pd.DataFrame], quality: int
) -> Picture:
    def first(name: str) -> np.ndarray | None:
        seen = (answer.seen(name, id) for answer in answers)
        return next((array for array in seen if array is not None), None)

    rgb, depth, mask = first("rgb"), first("depth"), first(MASK)
    known = [table.set_index("id")["score"] for table in scores]
    return Picture(
        id,
        defect,
        None if rgb is None else _uri(_tile(rgb[..., ::-1]), quality),
        None if depth is None else _uri(_tile(_grey(_stretched(depth))), quality),
        None if mask is None else _uri(_tile(_grey(mask), cv2.INTER_NEAREST), quality),
        tuple(_heat(answer.map(id), answer.seen(MASK, id), quality) for answer in answers),
        tuple(float(table.get(id, np.nan)) for table in known),
    )


def _stretched(depth: np.ndarray) -> np.ndarray:
    """Depth with the object's range spread over [0, 1]; zeros (no measurement) stay black."""
    measured = depth[depth > 0]
    if not measured.size:
        return depth
    low, high = np.quantile(measured, [0.01, 0.99])
    spread = 0.1 + 0.9 * np.clip((depth - low) / max(high - low, 1e-12), 0, 1)
    return np.where(depth > 0, spread, 0)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat((values.astype(np.float32) * 255).astype(np.uint8)[..., None], 3, axis=2)


def _heat(values: np.ndarray | None, mask: np.ndarray | None, quality: int) -> str | None:
    """A map in colours with the outline of the ground truth."""
    if values is None:
        return None
    tile = _tile(cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO))
    if mask is not None:
        truth = cv2.resize(mask.astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(truth, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outlines, -1, CONTOUR, 1)
    return _uri(tile, quality)


def _tile(picture: np.ndarray, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    if picture.shape[0] < TILE and interpolation == cv2.INTER_AREA:
        interpolation = cv2.INTER_LINEAR  # area averaging is for shrinking
    picture = np.ascontiguousarray(picture)
    return cv2.resize(picture, (TILE, TILE), interpolation=interpolation)


def _uri(picture: np.ndarray, quality: int) -> str:
    """JPEG with full colour resolution: halving it, as usual, would wash out the thin outlines."""
    how = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    encoded = cv2.imencode(".jpg", picture, how)[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()
