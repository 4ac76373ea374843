"""A store with the files of a launch as jobs write them, filled with invented numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from harness.metrics import get
from harness.metrics.ranking import auroc
from harness.store import SCHEMA, Store, influences, write_json
from harness.store.files import sealed

HOSTILE = '<script>alert("1")</script>'
SIZE = 48  # px
TEST = [("good", 8), ("bump", 5), ("stain", 5)]  # defect type, images
SKILL = {"das3d": 1.6, "m3dm": 1.2, "shape_guided": 0.8}
LIMITS = (0.3, 0.05)


def build_launch(
    path: Path,
    methods=(("das3d", ""), ("das3d", "untrained"), ("m3dm", "")),
    settings=("rgb", "3d", "rgb+3d"),
    categories=("cookie", "dome"),
    seeds=(0, 1),
    troubles=None,
    views=True,
    demo=True,
    arrays=True,
) -> tuple[Store, dict]:
    """Write results for every cell; -> the store and the launch's description.

    troubles: (method, variant, setting, category, seed), with None for any -> "pending", a status
    with a record of failure, or a dict laid over the result; its `score` is every image's.
    """
    store, cells = Store(path), []
    for category in categories:
        if views and arrays:
            _write_view(store, category)
        for method, variant in methods:
            for setting in settings:
                for seed in seeds:
                    cell = dict(
                        method=method,
                        variant=variant,
                        setting=setting,
                        dataset="synthetic",
                        category=category,
                        seed=seed,
                    )
                    cell["key"] = _key("cell", *cell.values())
                    cells.append(cell)
                    trouble = _trouble(troubles or {}, cell)
                    if isinstance(trouble, str):
                        _fail(store, cell, trouble)
                    else:
                        _finish(store, cell, trouble or {}, arrays)
    launch = {
        "id": "fake-00000000",
        "name": "fake",
        "demo": demo,
        "started": 1.7e9,
        "cells": cells,
        "config": {},
    }
    write_json(store.path / "launches" / f"{launch['id']}.json", launch)
    return store, launch


def without(store: Store, key: str, *names: str) -> None:
    """As if the job had never kept these files."""
    folder = store.folder(key)
    record = json.loads((folder / "result.json").read_text())
    for name in names:
        (folder / name).unlink()
        del record["files"][name]
    write_json(folder / "result.json", sealed(record))


def _key(*names) -> str:
    return hashlib.sha256("/".join(str(n) for n in names).encode()).hexdigest()[:16]


def _rng(*names) -> np.random.Generator:
    return np.random.default_rng(int(_key(*names), 16))


def _trouble(troubles: dict, cell: dict):
    names = [cell[k] for k in ("method", "variant", "setting", "category", "seed")]
    for pattern, trouble in troubles.items():
        if all(p is None or p == name for p, name in zip(pattern, names)):
            return trouble
    return None


def _fail(store: Store, cell: dict, status: str) -> None:
    if status == "pending":
        return
    store.fail(
        cell["key"],
        {
            "key": cell["key"],
            "kind": "cell",
            "status": status,
            "reason": f"ValueError: cannot fit {HOSTILE}",
            "log": ["INFO step=10 loss=0.5", f"\x1b[31mERROR {HOSTILE} & more\x1b[0m \ud800"],
            "attempt": 3,
            "spec": _spec(cell),
        },
    )


def _spec(cell: dict) -> dict:
    view = {"view": _key("view", cell["category"])}
    settings = {"train": {"steps": 0 if cell["variant"] else 2000}, "width": 32}
    return {"kind": "cell", **cell, "settings": settings, "needs": view}


def _truth(category: str):
    """ids, defects, labels, masks (N, S, S) of a category's test images."""
    ids, defects = zip(*[(f"{d}/{i:03d}", d) for d, n in TEST for i in range(n)])
    rng, grid = _rng("truth", category), np.mgrid[:SIZE, :SIZE]
    masks = np.zeros((len(ids), SIZE, SIZE), bool)
    for mask, defect in zip(masks, defects):
        if defect != "good":
            y, x = rng.uniform(0.35, 0.65, 2) * SIZE
            mask |= np.hypot(grid[0] - y, grid[1] - x) < rng.uniform(3, 7)
    return list(ids), list(defects), np.array([d != "good" for d in defects], int), masks


def _write_view(store: Store, category: str) -> None:
    folder = store.folder(_key("view", category)) / "test"
    folder.mkdir(parents=True)
    ids, defects, labels, masks = _truth(category)
    y, x = (np.mgrid[:SIZE, :SIZE] - SIZE / 2) / (SIZE / 2)
    disc = np.hypot(x, y) < 0.8
    depth = np.where(disc, 0.4 + 0.3 * np.sqrt(np.clip(0.64 - x**2 - y**2, 0, None)), 0)
    depth = depth[None] + 0.1 * masks
    shade = _rng("texture", category).uniform(0.8, 1, (len(ids), SIZE, SIZE))
    rgb = np.stack([shade * c for c in (190, 140, 90)], axis=-1) * disc[None, ..., None]
    rgb[masks] *= 0.6
    np.save(folder / "rgb.npy", rgb.astype(np.uint8))
    np.save(folder / "depth.npy", depth.astype(np.float32))
    np.save(folder / "mask.npy", masks)
    write_json(
        folder / "index.json",
        {
            "ids": ids,
            "defects": defects,
            "labels": labels.tolist(),
            "native_sizes": [[SIZE, SIZE] for _ in ids],
        },
    )
    view = {"name": "das3d", "background": "plane", "pad": False, "size": SIZE}
    write_json(
        folder.parent / "result.json",
        {
            "schema": SCHEMA,
            "kind": "view",
            "status": "done",
            "key": folder.parent.name,
            "timings": {"total_s": 36.0},
            "spec": {"kind": "view", "view": view, "needs": {}},
            "environment": {"device": "cpu"},
        },
    )


def _finish(store: Store, cell: dict, changes: dict, arrays: bool) -> None:
    rng, work = _rng("scores", *cell.values()), store.work(cell["key"])
    ids, defects, labels, masks = _truth(cell["category"])
    skill = 0.1 if cell["variant"] else SKILL.get(cell["method"], 1.0)
    skill *= {"rgb": 0.8, "3d": 1.0, "rgb+3d": 1.3}[cell["setting"]]
    scores = labels * skill + rng.normal(size=len(ids))
    if "score" in changes:
        scores = np.full(len(ids), changes["score"], float)
    pd.DataFrame({"id": ids, "defect": defects, "label": labels, "score": scores}).to_parquet(
        work / "scores.parquet"
    )
    if arrays:
        noise = rng.normal(size=masks.shape) * 0.5
        np.save(work / "maps.npy", (masks * skill + noise).astype(np.float16))
        write_json(work / "maps.json", {"ids": ids})
    value = auroc(scores[labels == 0], scores[labels == 1])
    metrics = {"i_auroc": value, "p_auroc": 0.5 + value / 2, "i_ap": value**0.5}
    metrics |= {f"aupro_{limit}": value * limit**0.3 for limit in LIMITS}
    metrics |= {f"aupro_exact_{limit}": value * limit**0.2 for limit in LIMITS}
    result = {
        "key": cell["key"],
        "kind": "cell",
        "status": "done",
        "attempt": 1,
        "spec": _spec(cell),
        "metrics": metrics,
        "signatures": {m: get(m).signature(SIZE) for m in metrics},
        "timings": {
            "fit_s": 80 + 9 * rng.random(),
            "predict_s": 2.1,
            "metrics_s": 0.4,
            "total_s": 90.0,
        },
        "speed": {
            "latency_p50_s": 0.0123,
            "latency_p95_s": 0.02,
            "fps": 81.3,
            "valid": cell["method"] == "m3dm",
        },
        "memory": {"host_peak_bytes": 812 << 20, "device_peak_bytes": None},
        "sizes": {"parameters": 4_321_000, "weight_bytes": 17_300_000},
        "environment": {
            "device": "cpu",
            "cpus": 1,
            "threads": 1,
            "commit": "0123456789ab",
            "versions": {"torch": "2.11.0", "numpy": "2.4.6"},
        },
        "marks": ["demo"],
        "notes": {"texture_source": "procedural"},
        "log": [],
        "started": 1.75e9,
        "ended": 1.75e9 + 90,
    }
    result |= {name: value for name, value in changes.items() if name != "score"}
    if arrays:
        influences.write(work, influences_for(cell, result, labels))
    store.publish(cell["key"], json.loads(json.dumps({"protocols": _common(result)} | result)))


def influences_for(cell: dict, result: dict, labels: np.ndarray) -> influences.Parts:
    """Of every pixel metric, in both protocols."""
    rng = _rng("influences", *cell.values())
    names = [name for name in result["metrics"] if not get(name).of_images]
    drawn = {name: 0.2 * rng.normal(size=len(labels)) for name in names}
    found = {"paper": result, "common": _common(result)["common"]}
    return {
        protocol: {one["signatures"][name]: values for name, values in drawn.items()}
        for protocol, one in found.items()
    }


def _common(result: dict) -> dict:
    """At the sensor's pixels, which are those of the view here."""
    signatures = {
        name: text.replace(f"res:{SIZE}x{SIZE}", "res:sensor")
        for name, text in result["signatures"].items()
        if name in result["metrics"]
    }
    return {"common": {"metrics": result["metrics"], "signatures": signatures}}
