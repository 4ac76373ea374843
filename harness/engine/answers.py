"""What `relief predict` leaves: maps, overlays and a table of scores.

OUT/scores.csv           a row a scan: its files, score, decision
OUT/maps/NAME.tiff       its anomaly map at the sensor's pixels, float32; higher is more anomalous
OUT/overlays/NAME.png    the map over the colour image
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from harness.engine.predict import Fault, Found, Threshold
from harness.store import Record, write_text
from methods.files import replaced

TABLE = "scores.csv"
SCORED = ("part", "colour", "geometry", "score")
DECIDED = ("p", "threshold", "decision")  # with a threshold only
FILES = ("map", "overlay", "known", "fault")
MOST = 0.6  # share of the map's colour where a score is highest
SEEN = (
    0.01,
    0.999,
)  # quantiles of the cell's stored maps that colours span, as on the report's page


@dataclass
class Answers:
    """low, high: scores of pixels between which overlays have their colours."""

    folder: Path
    low: float
    high: float
    threshold: Threshold | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, found: Found | Fault) -> None:
        """Write the files of a scan."""
        ref = found.ref
        row = {"part": ref.id, "colour": ref.rgb, "geometry": ref.xyz}
        if isinstance(found, Fault):
            self.rows.append(row | {"fault": str(found.error)})
            return
        paths = {
            "map": self.folder / "maps" / f"{ref.id}.tiff",
            "overlay": self.folder / "overlays" / f"{ref.id}.png",
        }
        whole = io.BytesIO()  # tifffile asks for the name of a file, which has none yet
        tifffile.imwrite(whole, found.map.astype(np.float32), compression="zlib")
        with replaced(paths["map"]) as file:
            file.write(whole.getvalue())
        with replaced(paths["overlay"]) as file:
            picture = overlay(found.rgb, found.map, self.low, self.high)
            Image.fromarray(picture).save(file, "PNG")
        row |= {name: path.relative_to(self.folder).as_posix() for name, path in paths.items()}
        row |= {"score": f"{found.score:.9g}", "known": int(found.known)}
        if t := self.threshold:
            decision = "defective" if found.score > t.value else "normal"
            row |= {"p": f"{t.p(found.score):.4g}", "threshold": f"{t.value:.9g}"}
            row |= {"decision": decision}
        self.rows.append(row)

    def write(self) -> Path:
        """The table, of all that was added."""
        columns = [*SCORED, *(DECIDED if self.threshold else ()), *FILES]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.folder / TABLE, text.getvalue())
        return self.folder / TABLE


def colours_of(record: Record) -> tuple[float, float]:
    """The range of a cell's stored maps, for overlays that can be compared."""
    maps = record.maps()
    if maps is None:
        return 0.0, 1.0
    step = max(1, maps.values.shape[-1] // 64)
    low, high = np.quantile(np.asarray(maps.values[:, ::step, ::step], np.float32), SEEN)
    return float(low), float(high)


def overlay(rgb: np.ndarray, values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W, 3) uint8: the image, the more covered by colour the higher a pixel scores."""
    level = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    heat = cv2.applyColorMap(np.round(255 * level).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = MOST * level[..., None]
    return np.round((1 - share) * rgb + share * heat[..., ::-1]).astype(np.uint8)
