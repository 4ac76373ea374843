"""What a fitted model says of scans that it was not evaluated on.

The samples get the view of the model's cell: the same recipe, the same background, the same range
of depth where that is the category's. A scan that is one of the cell's own samples, byte by byte,
keeps its name, so that what was kept or drawn for it serves again, and the same bits come out.
Every other gets a name made of its content: nothing can be looked up for it.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.blind import blind
from harness.data.cache import open_split
from harness.data.samples import SPLITS, DataError, Ref, Sample
from harness.data.views.build import prepare
from harness.data.views.registry import builder_of
from harness.engine.early import check_prediction
from harness.engine.evaluation import predict_all
from harness.engine.models import Model
from harness.store.prepared import MASK
from methods.contract import Samples
from methods.errors import UserError
from methods.seeds import opaque_id

OF_TRUTH = ("empty_mask", "good_sample_with_mask")  # oddities of samples whose truth is not known

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """Of one scan: the image's score, and its map at the sensor's pixels (H, W) float32."""

    ref: Ref
    rgb: np.ndarray  # (H, W, 3) uint8
    map: np.ndarray
    score: float
    known: bool  # whether it is one of the samples that the model was made and evaluated with


@dataclass(frozen=True)
class Fault:
    """A scan that cannot be judged, and why."""

    ref: Ref
    error: DataError


def predict(model: Model, refs: Sequence[Ref], size: int = 8) -> Iterator[Found | Fault]:
    """Each scan in turn, `size` at once, so memory does not grow with their number."""
    known, waiting = _Known(model), iter(refs)
    while batch := list(itertools.islice(waiting, size)):
        ready = [_ready(ref, model) for ref in batch]
        yield from (one for one in ready if isinstance(one, Fault))
        if good := [one for one in ready if isinstance(one, _Ready)]:
            yield from _judged(model, good, known)


@dataclass(frozen=True)
class _Ready:
    ref: Ref
    rgb: np.ndarray
    arrays: dict[str, np.ndarray]  # of the view, of this sample alone


def _ready(ref: Ref, model: Model) -> _Ready | Fault:
    try:
        sample = ref.load()
        for odd in ref.oddities(sample):
            if odd.code not in OF_TRUTH:
                log.warning("%s file=%s %s", odd.code, odd.file, odd.problem)
        return _Ready(ref, sample.rgb, arrays_of(model, sample))
    except DataError as error:
        return Fault(ref, error)


def arrays_of(model: Model, sample: Sample) -> dict[str, np.ndarray]:
    """What the model's view makes of a sample, with what it learnt from the training samples."""
    made = prepare(sample, model.view)
    arrays = {name: array[None] for name, array in made.items() if name != MASK}
    if finish := builder_of(type(model.view)).finish:
        finish(arrays, model.view, model.learnt)
    return {name: array[0] for name, array in arrays.items()}


def _judged(model: Model, ready: Sequence[_Ready], known: _Known) -> Iterator[Found]:
    names = [known.name(one.ref.id, one.arrays) for one in ready]
    arrays = {name: np.stack([one.arrays[name] for one in ready]) for name in ready[0].arrays}
    samples = Samples(arrays, tuple(name for name, _ in names))
    found = model.method.predict(samples.batch(range(len(ready)), model.device))
    check_prediction(model.method.name, found, [one.ref.id for one in ready], None)
    maps, scores = found.maps.float().cpu().numpy(), found.scores.float().cpu().numpy()
    for one, (_, is_known), values, score in zip(ready, names, maps, scores):
        size = one.rgb.shape[:2]
        frame = builder_of(type(model.view)).frame(model.view, size)
        yield Found(one.ref, one.rgb, frame.back(values, size), float(score), is_known)


class _Known:
    """The samples of the model's own view."""

    def __init__(self, model: Model):
        self.spec = model.prepared.spec
        folder = model.prepared.folder
        self.splits = [open_split(folder, split)[0] for split in SPLITS]
        self.at = [{id: i for i, id in enumerate(split.ids)} for split in self.splits]

    def name(self, id: str, arrays: dict[str, np.ndarray]) -> tuple[str, bool]:
        """What a method is to know a scan as, and whether it is one of these."""
        for split, at in zip(self.splits, self.at):
            if id in at and _equal(arrays, split, at[id]):
                return opaque_id(self.spec.data, self.spec.category, id), True
        digest = hashlib.sha256()
        for array in (arrays[name] for name in sorted(arrays)):
            digest.update(np.ascontiguousarray(array).tobytes())
        name = f"parts/{digest.hexdigest()}"
        return opaque_id(self.spec.data, self.spec.category, name), False


def _equal(arrays: dict[str, np.ndarray], split: Samples, row: int) -> bool:
    return arrays.keys() == split.arrays.keys() and all(
        np.array_equal(array, split.arrays[name][row]) for name, array in arrays.items()
    )


@dataclass(frozen=True)
class Threshold:
    """Above it a scan is called defective. normal (n,): sorted scores of normal samples"""

    value: float
    fpr: float
    normal: np.ndarray

    @classmethod
    def of(cls, normal: np.ndarray, fpr: float) -> Threshold:
        """The least that lets at most a share `fpr` of further normal scans through, on average.

        Of n normal scores and another one each rank is equally likely, so above the k-th least it
        is with (n + 1 - k) / (n + 1) or less (conformal prediction). Raises UserError where n
        scores are too few for that.
        """
        normal = np.sort(np.asarray(normal, float))
        n = len(normal)
        if not 0 < fpr < 1:
            raise UserError(f"--fpr is {fpr:g}: give a share above 0 and below 1, e.g. 0.05")
        k = math.ceil((n + 1) * (1 - fpr) - 1e-9)
        if k > n:
            least = f"{1 / (n + 1):.3g}" if n else "no rate at all"
            raise UserError(
                f"a false-positive rate of {fpr:g} cannot be told from {n} normal validation "
                f"samples: they can tell {least} or more; {math.ceil(1 / fpr) - 1} would do"
            )
        return cls(float(normal[k - 1]), fpr, normal)

    def p(self, score: float) -> float:
        """How often a normal scan would score so high, at most: its conformal p-value."""
        above = len(self.normal) - np.searchsorted(self.normal, score, side="left")
        return float((1 + above) / (len(self.normal) + 1))


def normal_scores(model: Model, size: int = 8) -> np.ndarray:
    """(n,): scores of the normal validation samples, on which no weight was trained."""
    spec = model.prepared.spec
    samples, _ = open_split(model.prepared.folder, "validation")
    if not len(samples):
        return np.empty(0)
    split = blind(samples, spec.category, spec.data)
    return predict_all(model.method, split, size, model.device, lambda _: None).scores.numpy()
