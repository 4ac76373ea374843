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

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import tifffile

from harness.store import DAMAGED, DamagedError, Record, Results
from harness.store.frames import Frame, frame_of
from harness.store.prepared import INDEX, MASK, Prepared
from harness.store.records import Maps
from methods.errors import UserError
from reports.numbers.names import file_name
from reports.numbers.stores import checked

SIZES = PROTOCOL, ORIGINAL = ("protocol", "original")


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
    store: Results, launch: dict, out: str | Path, truth: bool = False, size: str = PROTOCOL
) -> Exported:
    """Write the maps of every finished cell of a launch below `out`, at one of SIZES."""
    if size not in SIZES:
        raise UserError(f"unknown size {size!r} of maps; known: {', '.join(SIZES)}")
    if truth and size == ORIGINAL:
        raise UserError(
            "the ground truth at its original size is the dataset's own: give the tool that "
            "folder, or export at size protocol with the truth"
        )
    done, store = Exported(), checked(store)
    for cell in launch["cells"]:
        names = [cell["method"], cell["variant"], cell["setting"], f"seed{cell['seed']}"]
        folder = Path(out) / file_name(cell["dataset"]) / file_name("-".join(filter(None, names)))
        try:
            count = _export_cell(store, cell, folder, truth, size)
        except (LookupError, DamagedError) as error:
            damaged = isinstance(error, DamagedError)
            reason = store.note(error).reason if damaged else error.args[0]
            done.left_out[" ".join([*filter(None, names), cell["category"]])] = reason
            continue
        done.maps += count
        if folder not in done.folders:
            done.folders.append(folder)
    return done


def _export_cell(store: Results, cell: dict, folder: Path, truth: bool, size: str) -> int:
    """Write one cell's maps; LookupError if the store lacks them. -> how many"""
    result = store.result(cell["key"])
    if result is None or not result.done:
        if result is None:
            raise LookupError("pending")
        raise LookupError(result.reason if result.status == DAMAGED else result.status)
    category, kept, scores = file_name(cell["category"]), result.maps(), result.scores()
    if kept is None or scores is None:
        raise LookupError("its maps are not in the store")
    scored = scores["id"].to_pylist()
    if set(kept.ids) != set(scored):
        raise LookupError(
            f"only {len(kept.ids)} of {len(scored)} maps were kept; "
            "run with protocol.keep_maps=true"
        )
    ways = _ways(store, result, scored) if size == ORIGINAL else {}
    for id, values in zip(kept.ids, kept.values):
        path = _path(folder / "maps" / category, id, ".tiff")
        values = np.asarray(values, np.float32)
        if size == ORIGINAL:
            frame, native = ways[id]
            values = frame.back(values, native)
        tifffile.imwrite(path, values, compression="zlib")
    if truth:
        _export_truth(store, result, folder / "truth" / category, kept)
    return len(kept.ids)


def _ways(
    store: Results, result: Record, scored: list[str]
) -> dict[str, tuple[Frame, tuple[int, int]]]:
    """Test image -> what of it a map covers, and its size (H, W). Imported maps cover all of it."""
    if result.spec.imported:
        kept = result.maps()
        size = kept.values.shape[1:] if kept else (0, 0)
        return {id: (Frame.whole(size), size) for id in scored}
    view, test = _seen(store, result)
    if view is None or test is None or not test.exists:
        raise LookupError("its view, which knows the original sizes, is not in the store")
    view.check_contents(f"test/{INDEX}")
    return {id: (frame_of(view, size), size) for id, size in test.native_sizes.items()}


def _export_truth(store: Results, result: Record, folder: Path, kept: Maps) -> None:
    view, test = _seen(store, result)
    if view is not None:
        view.check_contents(f"test/{INDEX}", f"test/{MASK}.npy")
    masks = test.array(MASK) if test else None
    if test is None or masks is None:
        raise LookupError("the view with its ground truth is not in the store; maps are written")
    size = kept.values.shape[1:]
    if masks.shape[1:] != size:
        raise LookupError(f"maps are {size} and masks {masks.shape[1:]}; maps are written")
    for id in kept.ids:
        mask = (np.asarray(masks[test.at[id]]) > 0).astype(np.uint8) * 255
        path = _path(folder, id, ".png", "gt")
        path.write_bytes(cv2.imencode(".png", mask)[1].tobytes())


def _seen(store: Results, result: Record) -> tuple[Record | None, Prepared | None]:
    """The view of a cell and its test split, where they are in the store."""
    key = result.spec.needs.view
    view = store.result(key) if key else None
    return (view, Prepared(view.folder / "test")) if view and view.done else (None, None)


def _path(folder: Path, id: str, suffix: str, *below: str) -> Path:
    """folder/test/<defect>/.../<id>; ids are "test/<defect>/<id>" or without the split."""
    *defect, name = (file_name(part) for part in id.removeprefix("test/").split("/"))
    path = folder.joinpath("test", *defect, *below, name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
