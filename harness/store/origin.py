"""What a cell's record says of the data that it was scored on, for whoever asks whose they are.

"data" in the record:

    made      whether Relief made them itself
    files     endings of the images and of the scans, e.g. [".png", ".tiff"]
    samples   of each split, e.g. {"train": 244, "validation": 22, "test": 110}
    sizes     rows and columns of the images, each that occurs, e.g. [[800, 800]]

Records of views and ground truths have it in their summaries ("data"), and cells take it over.
Those of earlier versions have a part of it elsewhere, or none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.store.frames import Size
from harness.store.records import Record

DATA = "data"


def data_of(prepared: Record) -> dict[str, Any]:
    """Of a view or a ground truth: what it knows of the data."""
    summary, known = prepared.summary, dict[str, Any]()
    if DATA in summary:
        known |= summary[DATA]
    else:  # of an earlier version
        known |= {"made": True} if prepared.spec.needs.dataset else {}
        known |= {"samples": summary["samples"]} if "samples" in summary else {}
    if frames := summary.get("frames"):
        known["sizes"] = sizes_told((rows, columns) for rows, columns, *_ in frames)
    return known


def sizes_told(sizes: Iterable[Size]) -> list[list[int]]:
    return [list(size) for size in sorted(set(sizes))]
