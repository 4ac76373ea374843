"""Cells whose maps come from elsewhere: they are scored, and stored as any other's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import metrics
from harness.data import maps as files
from harness.data.samples import DataError
from harness.data.truth import SensorTruth, read_truth
from harness.engine import scoring
from harness.metrics import Scored
from harness.metrics.images import Images
from harness.planning.jobs import Place
from harness.store import COMMON, PAPER, Spec, Store, influences, write_json
from harness.store.origin import DATA, data_of, sizes_told
from harness.store.records import MAP_IDS, MAPS, write_curves, write_scores

AS_MAXIMUM = "the maximum of the map, as MVTec's evaluation tool takes it"


def score_imported(spec: Spec, place: Place, store: Store, work: Path) -> dict[str, Any]:
    """What the record of such a cell says; its files go to `work`.

    Scores are those of the files' own pixels, which are the sensor's, in both protocols.
    """
    started = time.perf_counter()
    record = store.verified(place.truth)
    truth = read_truth(record.folder)
    values = _maps_of(spec.category, truth, Path(place.inputs["maps"]))
    stored = _kept(values, truth.ids, work)
    read_s = time.perf_counter() - started
    scores, notes = _scores(spec.category, truth, values, place)
    masks = scoring.masks_of(truth, range(len(truth.ids)))
    scored = Scored(scores, truth.labels, values, masks, spec.category, truth.ids)
    scored.check()
    found = scoring.signed(scored, metrics.known_metrics(), own_size(truth.sizes))
    common = scoring.resigned(found, "sensor")
    influences.write(work, influences.taken_out({PAPER: found, COMMON: common}))
    write_scores(work, truth.ids, truth.defects, truth.labels, scores)
    write_curves(work, metrics.curves_of(scored))
    if not stored:
        notes["maps"] = "of several sizes, so not stored: they cannot be scored again from here"
    seconds = time.perf_counter() - started
    return {
        "labels": place.labels,
        **found,
        "protocols": {COMMON: common},
        "truth": place.truth,
        "counts": {"test": len(truth.ids), "anomalous": int(truth.labels.sum())},
        DATA: data_of(record) | {"sizes": sizes_told(truth.sizes)},
        "timings": {"read_s": read_s, "metrics_s": seconds - read_s},
        "notes": notes,
        "marks": list(place.marks),
    }


def own_size(sizes: tuple[tuple[int, int], ...]) -> tuple[int, int] | str:
    """As signatures say it."""
    return sizes[0] if len(set(sizes)) == 1 else "native"


def _maps_of(category: str, truth: SensorTruth, root: Path) -> Images:
    paths, faults = files.find_maps(root / category, truth.ids)
    if faults:
        raise DataError(f"maps of {category}: {faults}", "one map for every test image", root)
    ordered = [paths[id] for id in truth.ids]
    return Images(lambda i: files.read_map(ordered[i], truth.sizes[i]), truth.sizes, np.float32)


def _kept(values: Images, ids: tuple[str, ...], work: Path) -> bool:
    """Read every map, and store those of one size; False where they have several.

    Raises DataError naming all files that cannot be used.
    """
    alike = len(set(values.sizes)) == 1
    shape = (len(values), *values.sizes[0])
    file = np.lib.format.open_memmap(work / MAPS, "w+", np.float32, shape) if alike else None
    faults: list[DataError] = []
    for i in range(len(values)):
        try:
            one = values[i]
        except DataError as error:
            faults.append(error)
            continue
        if file is not None:
            file[i] = one
    if faults:
        told = "; ".join(fault.problem for fault in faults[: files.NAMED])
        more = f" and {len(faults) - files.NAMED} more" if len(faults) > files.NAMED else ""
        raise DataError(told + more, faults[0].todo, faults[0].file)
    if file is None:
        return False
    file.flush()
    write_json(work / MAP_IDS, {"ids": list(ids)})
    return True


def _scores(
    category: str, truth: SensorTruth, values: Images, place: Place
) -> tuple[np.ndarray, dict[str, str]]:
    """Image scores (n,), and where they come from."""
    if path := place.inputs.get("scores"):
        given = files.read_image_scores(Path(path))
        return files.scores_for(given, category, truth.ids, Path(path)), {"image_score": "given"}
    return np.array([one.max() for one in values], np.float32), {"image_score": AS_MAXIMUM}
