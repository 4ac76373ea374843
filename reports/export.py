"""Anomaly maps as files that the MVTec 3D-AD evaluation tool reads.

    OUT/<dataset>/<method>[-<variant>]-<setting>-seed<seed>/maps/<category>/test/<defect>/<id>.tiff
    .../truth/<category>/test/<defect>/gt/<id>.png    with `truth`

A map is one float32 page, exactly as the method returned it, at the protocol's size; nothing is
resized, so the numbers stay those of the store. The tool wants the size of its ground truth: give
it `truth` as --dataset_base_dir and `maps` as --anomaly_maps_dir. It takes the maximum of a map as
the image's score; a method whose score is another has another I-AUROC there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import tifffile

from harness.store import DONE, Store
from reports.names import file_name


@dataclass
class Exported:
    """What was written, and which cells could not be, with the reason."""

    folders: list[Path] = field(default_factory=list)    # one a method, setting and seed
    maps: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        for folder in self.folders:
            yield f"{folder}"
        yield f"{self.maps} maps written"
        for cell, reason in self.left_out.items():
            yield f"left out {cell}: {reason}"


def export_maps(store: Store, launch: dict, out: str | Path, truth: bool = False) -> Exported:
    """Write the maps of every finished cell of a launch below `out`."""
    done = Exported()
    for cell in launch["cells"]:
        names = [cell["method"], cell["variant"], cell["setting"], f"seed{cell['seed']}"]
        folder = Path(out) / file_name(cell["dataset"]) / file_name("-".join(filter(None, names)))
        try:
            count = _export_cell(store, cell, folder, truth)
        except LookupError as error:
            done.left_out[" ".join([*filter(None, names), cell["category"]])] = error.args[0]
            continue
        done.maps += count
        if folder not in done.folders:
            done.folders.append(folder)
    return done


def _export_cell(store: Store, cell: dict, folder: Path, truth: bool) -> int:
    """Write one cell's maps; LookupError if the store lacks them. -> how many"""
    result = store.result(cell["key"])
    if result is None or result["status"] != DONE:
        raise LookupError("pending" if result is None else result["status"])
    source, category = store.folder(cell["key"]), file_name(cell["category"])
    if not (source / "maps.npy").exists():
        raise LookupError("its maps are not in the store")
    maps = np.load(source / "maps.npy", mmap_mode="r")    # (n, H, W)
    ids = json.loads((source / "maps.json").read_text(encoding="utf-8"))["ids"]
    scored = pq.ParquetFile(source / "scores.parquet").read(["id"])["id"].to_pylist()
    if set(ids) != set(scored):
        raise LookupError(
            f"only {len(ids)} of {len(scored)} maps were kept; run with protocol.keep_maps=true"
        )
    for id, values in zip(ids, maps):
        path = _path(folder / "maps" / category, id, ".tiff")
        tifffile.imwrite(path, np.asarray(values, np.float32), compression="zlib")
    if truth:
        _export_truth(store, result, folder / "truth" / category, ids, maps.shape[1:])
    return len(ids)


def _export_truth(store: Store, result: dict, folder: Path, ids: list[str], size: tuple) -> None:
    view = (result["spec"].get("needs") or {}).get("view")
    source = store.folder(view) / "test" if view else None
    if source is None or not (source / "mask.npy").exists():
        raise LookupError("the view with its ground truth is not in the store; maps are written")
    masks = np.load(source / "mask.npy", mmap_mode="r")
    index = json.loads((source / "index.json").read_text(encoding="utf-8"))["ids"]
    where = {id: i for i, id in enumerate(index)}
    if masks.shape[1:] != size:
        raise LookupError(f"maps are {size} and masks {masks.shape[1:]}; maps are written")
    for id in ids:
        mask = (np.asarray(masks[where[id]]) > 0).astype(np.uint8) * 255
        path = _path(folder, id, ".png", "gt")
        path.write_bytes(cv2.imencode(".png", mask)[1].tobytes())


def _path(folder: Path, id: str, suffix: str, *below: str) -> Path:
    """folder/test/<defect>/.../<id>; ids are "test/<defect>/<id>" or without the split."""
    *defect, name = (file_name(part) for part in id.removeprefix("test/").split("/"))
    path = folder.joinpath("test", *defect, *below, name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
