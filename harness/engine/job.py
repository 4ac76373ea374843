"""Run one job: make a dataset, prepare a view, fit a shared stage, or fit and evaluate a cell.

No Ray here: `run_job` is what a worker process calls, what tests call in-process, and what
`python -m harness.engine.job SPEC.json STORE` runs by hand on a machine without the engine.
"""

from __future__ import annotations

import collections
import copy
import functools
import json
import logging
import os
import random
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import methods
from harness import metrics
from harness.data import synthetic, views
from harness.data.cache import open_split
from harness.data.datasets import open_dataset
from harness.engine.environment import environment
from harness.engine.evaluation import predict_all, validate
from harness.engine.measure import Memory, latency, load_average, macs, preprocessing
from harness.store import DONE, FAILED, OUT_OF_MEMORY, Store, write_json
from harness.store.curve import Curve
from methods.contract import (
    NOTED_MARKS,
    Progress,
    Run,
    Samples,
    View,
    seed_for,
    settings_from,
)

PROGRESS_EVERY_S = 0.5
LOG_LINES = 30


def run_job(job: dict, store_path: str, attempt: int = 1) -> dict:
    """Compute a job unless its result is there; -> outcome {key, status, reason, log}.

    job: {key, spec, place, title, resources}, as `driver.describe` makes it. Whoever holds the
    job's lock computes; others wait and find the result. Exceptions of the job become an outcome.
    """
    store, key, resources = Store(store_path), job["key"], job["resources"]
    log: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
    with _collected(log), store.lock(key):
        if store.done(key):
            return {"key": key, "status": DONE}
        _settle(job["spec"], resources)
        try:
            started = time.time()
            progress = _progress_file(store, key, attempt)
            progress(Progress("starting", 0, 1))
            device = torch.device("cuda" if resources["gpus"] > 0 else "cpu")
            memory = Memory(device)
            result = RUNNERS[job["spec"]["kind"]](job, store, device, progress)
            result["timings"]["total_s"] = time.time() - started
            result["timings"]["load_average"] = load_average()
            result |= {
                "schema": 1,
                "key": key,
                "kind": job["spec"]["kind"],
                "title": job["title"],
                "status": DONE,
                "spec": job["spec"],
                "memory": memory.peaks(),
                "environment": environment(device)
                | {"cpus": resources["cpus"], "gpus": resources["gpus"]},
                "attempt": attempt,
                "started": started,
                "ended": time.time(),
                "log": list(log),
            }
            progress.curve.write()
            progress.path.unlink(missing_ok=True)
            store.publish(key, result)
            return {"key": key, "status": DONE}
        except (MemoryError, torch.OutOfMemoryError) as error:
            status, reason = OUT_OF_MEMORY, _one_line(error)
        except Exception as error:  # any failure of a job is a result; the others go on
            status, reason = FAILED, _one_line(error)
        lines = [*log, *traceback.format_exc().splitlines()]
        return {"key": key, "status": status, "reason": reason, "log": lines[-LOG_LINES:]}


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]


@contextmanager
def _collected(log: collections.deque) -> Iterator[None]:
    """Keep the job's log lines and warnings, for its record."""
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: log.append(f"{record.levelname} {record.getMessage()}")
    root = logging.getLogger()
    root.addHandler(handler)
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.removeHandler(handler)


def _settle(spec: dict, resources: dict) -> None:
    """Put the process in the same state whatever ran in it before.

    torch reads OMP_NUM_THREADS only at import, so a reused worker would keep the thread count
    of its first job; and results must not depend on how many threads sum them.
    """
    torch.set_num_threads(resources["cpus"])
    cv2.setNumThreads(0)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    seed = seed_for("job", spec.get("category"), spec.get("seed", 0))
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _progress_file(store: Store, key: str, attempt: int) -> Any:
    """A callback that keeps work/<key>/progress.json current, for the display and `status`.

    It keeps the losses, too.
    """
    path, started, last = store.work(key) / "progress.json", time.time(), [0.0]
    curve = Curve(store.work(key))

    def report(progress: Progress) -> None:
        curve.add(progress)
        now = time.monotonic()
        if now - last[0] < PROGRESS_EVERY_S and progress.step < progress.total:
            return
        last[0] = now
        write_json(
            path, {"started": started, "attempt": attempt, "pid": os.getpid(), **vars(progress)}
        )

    report.path, report.curve = path, curve
    return report


def _make_dataset(job: dict, store: Store, device: torch.device, report: Any) -> dict:
    spec, folder, start = job["spec"], store.work(job["key"]), time.perf_counter()
    recipe = settings_from(synthetic.Spec, spec["recipe"])
    synthetic.write_category(
        folder,
        spec["category"],
        recipe,
        report=lambda done, total: report(Progress("render", done, total)),
        workers=job["resources"]["cpus"],
    )
    return {"timings": {"render_s": time.perf_counter() - start}}


def _prepare_view(job: dict, store: Store, device: torch.device, report: Any) -> dict:
    spec, start = job["spec"], time.perf_counter()
    twin = job["place"].get("twin")
    if twin and store.done(twin):
        views.link_view(store.folder(twin), store.work(job["key"]))
        made = {name: store.result(twin).get(name) for name in ("summary", "speed")}
        return made | {"twin": twin, "timings": {"prepare_s": time.perf_counter() - start}}
    needed = spec["needs"].get("dataset")
    root = store.folder(needed) if needed else job["place"]["root"]
    category = open_dataset(job["place"]["kind"], root, **spec["reading"]).category(
        spec["category"]
    )
    summary = views.build_view(
        category,
        _view(spec["view"]),
        store.work(job["key"]),
        report=lambda done, total: report(Progress("prepare", done, total)),
        workers=job["resources"]["cpus"],
    )
    timings = {"prepare_s": time.perf_counter() - start}
    return {
        "summary": summary,
        "timings": timings,
        "speed": preprocessing(category, _view(spec["view"])),
    }


def _run_stage(job: dict, store: Store, device: torch.device, report: Any) -> dict:
    spec, work, clock = job["spec"], store.work(job["key"]), _Clock()
    cls = methods.get(spec["method"]).stages[spec["stage"]]
    folders = {category: store.folder(key) for category, key in _needs(spec, "view").items()}
    if cls.reads == "category":
        (folder,) = folders.values()
        data = {split: open_split(folder, split)[0] for split in views.PARTS}
    else:
        data = {c: _training_samples(folder, spec, c)[0] for c, folder in folders.items()}
    run = _run(job, store, device, report)
    stage = cls(_settings(cls, job), run)
    stage.fit(data)
    clock.lap("fit_s")
    stage.save(work)
    run.checkpoint_path.unlink(missing_ok=True)
    stages = _needs(spec, "stage").values()
    notes = [store.result(key)["notes"] for key in stages] + [stage.notes()]
    return {"timings": clock.laps, "sizes": dict(stage.sizes()), "notes": _joined(notes)}


def _joined(notes: list[dict]) -> dict:
    return {name: fact for part in notes for name, fact in part.items()}


def _run(job: dict, store: Store, device: torch.device, report: Any) -> Run:
    spec = job["spec"]
    return Run(
        category=spec.get("category", "all"),
        seed=spec["seed"],
        device=device,
        folder=store.work(job["key"]),
        report=report,
        checkpoint_every_s=job["place"]["checkpoint_every_s"],
        stages={name: store.folder(key) for name, key in _needs(spec, "stage").items()},
    )


def _needs(spec: dict, kind: str) -> dict[str, str]:
    """Name -> key of the needed jobs called "<kind>:<name>"."""
    parts = [(*name.split(":", 1), key) for name, key in spec["needs"].items() if ":" in name]
    return {name: key for found, name, key in parts if found == kind}


def _settings(cls: Any, job: dict) -> Any:
    """The settings of a method or stage, with the paths of its inputs where they are here."""
    values = copy.deepcopy(job["spec"]["settings"])
    for dotted, path in job["place"]["inputs"].items():
        *groups, name = dotted.split(".")
        functools.reduce(dict.__getitem__, groups, values)[name] = path
    return settings_from(cls.Settings, values)


def _view(recipe: dict) -> View:
    fields = dict(recipe)
    return settings_from(views.RECIPES[fields.pop("name")], fields)


def _run_cell(job: dict, store: Store, device: torch.device, report: Any) -> dict:
    spec, place, work = job["spec"], job["place"], store.work(job["key"])
    data, protocol = store.folder(spec["needs"]["view"]), place["protocol"]
    train, available = _training_samples(data, spec, spec["category"])
    validation, _ = open_split(data, "validation")
    test, truth = open_split(data, "test")

    run = _run(job, store, device, report)
    cls = methods.get(spec["method"])
    method = cls(_settings(cls, job), spec["setting"], run)
    clock = _Clock()
    method.fit(train, validation)
    clock.lap("fit_s")
    found = predict_all(method, test, protocol["batch"], device, report)
    clock.lap("predict_s")
    maps, scores = found.maps.numpy(), found.scores.numpy()
    values, curves = metrics.evaluate_with_curves(
        maps, truth.masks, scores, truth.labels, spec["category"], test.ids
    )
    chosen_by = validate(method, data, validation, protocol["batch"], device, spec["category"])
    clock.lap("metrics_s")

    speed, sizes = None, dict(method.sizes())
    if protocol["latency_samples"]:
        # without ids nothing can be looked up: the whole way from arrays to map is timed
        singles = [replace(test.batch([i], device), ids=("",)) for i in range(min(len(test), 16))]
        speed = latency(
            method.predict,
            singles,
            device,
            protocol["latency_warmup"],
            protocol["latency_samples"],
            protocol["latency_seconds"],
        )
        speed["valid"] = _alone(job["resources"])
        speed |= _with_preprocessing(speed, store.result(spec["needs"]["view"]))
        sizes["macs"] = macs(method.predict, singles[0])

    _write_scores(work / "scores.parquet", test.ids, truth, scores)
    np.savez_compressed(work / "pro_curve.npz", **curves)
    kept = range(len(test)) if protocol["keep_maps"] else _examples(truth.defects)
    np.save(work / "maps.npy", maps[list(kept)])
    write_json(work / "maps.json", {"ids": [test.ids[i] for i in kept]})
    if protocol["keep_models"]:
        (work / "model").mkdir(exist_ok=True)
        method.save(work / "model")
    run.checkpoint_path.unlink(missing_ok=True)
    stages = _needs(spec, "stage").values()
    notes = _joined([store.result(key)["notes"] for key in stages] + [method.notes()])
    return {
        "labels": place["labels"],
        "metrics": values,
        "validation": chosen_by,
        "signatures": metrics.signatures(maps.shape[1:]),
        "counts": {
            "train": len(train),
            "train_available": available,
            "test": len(test),
            "anomalous": int(truth.labels.sum()),
        },
        "timings": clock.laps,
        "speed": speed,
        "sizes": sizes,
        "notes": notes,
        "marks": _marks(place["marks"], notes),
    }


def _with_preprocessing(speed: dict, view: dict) -> dict:
    """What reading and preparing a sample adds, as measured when the view was made.

    End to end is the sum of the two medians. Nothing for a view of an earlier version.
    """
    if (before := (view.get("speed") or {}).get("preprocess_p50_s")) is None:
        return {}
    return {"preprocess_p50_s": before, "end_to_end_p50_s": speed["latency_p50_s"] + before}


def _marks(given: list[str], notes: dict[str, str]) -> list[str]:
    """The marks of the configuration, and those that a note names."""
    noted = [mark for mark in NOTED_MARKS if any(mark in note for note in notes.values())]
    return list(dict.fromkeys([*given, *noted]))


def _training_samples(folder: Path, spec: dict, category: str) -> tuple[Samples, int]:
    """The samples to train on, and how many there were to choose from."""
    train, _ = open_split(folder, "train")
    count = spec.get("train_samples")
    if count is None:
        return train, len(train)
    return few_shot(train, count, category, spec["seed"]), len(train)


def few_shot(train: Samples, count: int, category: str, seed: int) -> Samples:
    """The first `count` of a permutation of the sorted ids, so 5 samples are among the 10.

    They keep the order they had, so that all of them are the whole split.
    """
    if not 1 <= count <= len(train):
        raise ValueError(f"train_samples is {count}, and {category} has {len(train)} to train on")
    order = np.argsort(np.array(train.ids), kind="stable")
    drawn = np.random.default_rng(seed_for("few_shot", category, seed)).permutation(len(train))
    chosen = np.sort(order[drawn[:count]])
    arrays = {name: array[chosen] for name, array in train.arrays.items()}
    return Samples(arrays, tuple(train.ids[i] for i in chosen))


class _Clock:
    def __init__(self):
        self.laps: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self.last = now - self.last, now


def _examples(defects: list[str]) -> list[int]:
    """The middle sample of every defect folder."""
    where: dict[str, list[int]] = {}
    for i, defect in enumerate(defects):
        where.setdefault(defect, []).append(i)
    return sorted(indices[len(indices) // 2] for indices in where.values())


def _alone(resources: dict) -> bool:
    """Whether the job had the machine's CPUs, and its GPU if any, for itself."""
    whole_gpu = resources["gpus"] == 0 or resources["gpus"] >= 1
    return whole_gpu and resources["cpus"] >= (os.cpu_count() or 1)


def _write_scores(path: Path, ids: tuple[str, ...], truth: Any, scores: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": list(ids),
        "defect": list(truth.defects),
        "label": truth.labels,
        "score": scores,
    }
    pq.write_table(pa.table(columns), path)


RUNNERS = {
    "dataset": _make_dataset,
    "view": _prepare_view,
    "stage": _run_stage,
    "cell": _run_cell,
}


def main(arguments: list[str] | None = None) -> int:
    """python -m harness.engine.job JOB.json STORE: run one described job here, without Ray."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 2:
        print("usage: python -m harness.engine.job JOB.json STORE", file=sys.stderr)
        return 2
    outcome = run_job(json.loads(Path(arguments[0]).read_text()), arguments[1])
    print(json.dumps(outcome))
    return 0 if outcome["status"] == DONE else 1


if __name__ == "__main__":
    sys.exit(main())
