"""Anomaly maps as files that the MVTec 3D-AD evaluation tool reads.

    OUT/<dataset>/<method>[-<variant>]-<setting>-seed<seed>/maps/<category>/test/<defect>/<id>.tiff
    .../truth/<category>/test/<defect>/gt/<id>.png    with `truth`

A map is one float32 page. At size "protocol" it is exactly what the method returned, so the numbers
stay those of the store; the tool wants the size of its ground truth, so give it `truth` as
--dataset_base_dir and `maps` as --anomaly_maps_dir. At size "original" a map has the size of the
sample's own files, and the dataset itself is the --dataset_base_dir: what the view did to the
ground truth is undone, bilinearly, so the numbers differ a little. The tool takes the maximum of
a map as the image's score; a method whose score is another has another I-AUROC there.
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
from reports.numbers.names import file_name

SIZES = PROTOCOL, ORIGINAL = ("protocol", "original")
PAD_MULTIPLE = 100  # px; views that pad, pad to a square of such a side, centred
PADS_WITH_PLANE = ("m3dm", "shape_guided")  # views that pad only if they remove a background


@dataclass
class Exported:
    """What was written, and which cells could not be, with the reason."""

    folders: list[Path] = field(default_factory=list)  # one a method, setting and seed
    maps: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        for folder in self.folders:
            yield f"{folder}"
        yield f"{self.maps} maps written"
        for cell, reason in self.left_out.items():
            yield f"left out {cell}: {reason}"


def export_maps(
    store: Store, launch: dict, out: str | Path, truth: bool = False, size: str = PROTOCOL
) -> Exported:
    """Write the maps of every finished cell of a launch below `out`, at one of SIZES."""
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r} of maps; known: {', '.join(SIZES)}")
    if truth and size == ORIGINAL:
        raise ValueError(
            "the ground truth at its original size is the dataset's own: give the tool that "
            "folder, or export at size protocol with the truth"
        )
    done = Exported()
    for cell in launch["cells"]:
        names = [cell["method"], cell["variant"], cell["setting"], f"seed{cell['seed']}"]
        folder = Path(out) / file_name(cell["dataset"]) / file_name("-".join(filter(None, names)))
        try:
            count = _export_cell(store, cell, folder, truth, size)
        except LookupError as error:
            done.left_out[" ".join([*filter(None, names), cell["category"]])] = error.args[0]
            continue
        done.maps += count
        if folder not in done.folders:
            done.folders.append(folder)
    return done


def _export_cell(store: Store, cell: dict, folder: Path, truth: bool, size: str) -> int:
    """Write one cell's maps; LookupError if the store lacks them. -> how many"""
    result = store.result(cell["key"])
    if result is None or result["status"] != DONE:
        raise LookupError("pending" if result is None else result["status"])
    source, category = store.folder(cell["key"]), file_name(cell["category"])
    if not (source / "maps.npy").exists():
        raise LookupError("its maps are not in the store")
    maps = np.load(source / "maps.npy", mmap_mode="r")  # (n, H, W)
    ids = json.loads((source / "maps.json").read_text(encoding="utf-8"))["ids"]
    scored = pq.ParquetFile(source / "scores.parquet").read(["id"])["id"].to_pylist()
    if set(ids) != set(scored):
        raise LookupError(
            f"only {len(ids)} of {len(scored)} maps were kept; run with protocol.keep_maps=true"
        )
    native = _native_sizes(store, result) if size == ORIGINAL else {}
    for id, values in zip(ids, maps):
        path = _path(folder / "maps" / category, id, ".tiff")
        values = np.asarray(values, np.float32)
        if size == ORIGINAL:
            values = at_native_size(values, *native[id])
        tifffile.imwrite(path, values, compression="zlib")
    if truth:
        _export_truth(store, result, folder / "truth" / category, ids, maps.shape[1:])
    return len(ids)


def at_native_size(values: np.ndarray, size: tuple[int, int], padded: bool) -> np.ndarray:
    """A map (S, S) of a view as one of the sample's own size (H, W), bilinear.

    padded: whether the view had put zeros around the sample, which are cut off again.
    """
    height, width = size
    side = -(-max(size) // PAD_MULTIPLE) * PAD_MULTIPLE
    frame = (side, side) if padded else size
    values = cv2.resize(values, frame[::-1], interpolation=cv2.INTER_LINEAR)
    top, left = (frame[0] - height) // 2, (frame[1] - width) // 2
    return np.ascontiguousarray(values[top : top + height, left : left + width])


def _native_sizes(store: Store, result: dict) -> dict[str, tuple[tuple[int, int], bool]]:
    """Test image -> its size (H, W), and whether its view is padded."""
    key = (result["spec"].get("needs") or {}).get("view")
    view = store.result(key) if key else None
    index = store.folder(key) / "test" / "index.json" if key else None
    if view is None or view["status"] != DONE or not index.exists():
        raise LookupError("its view, which knows the original sizes, is not in the store")
    recipe, index = view["spec"]["view"], json.loads(index.read_text(encoding="utf-8"))
    padded = bool(recipe.get("pad")) and not (
        recipe["name"] in PADS_WITH_PLANE and recipe["background"] == "none"
    )
    return {id: (tuple(s), padded) for id, s in zip(index["ids"], index["native_sizes"])}


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
