"""What each test image does to the pixel metrics of a cell, for intervals (metrics/influence.py).

    STORE/jobs/KEY/influences.npz    written with the cell's scores
    STORE/rescored/KEY.npz           computed after them, from the stored maps

Of each protocol the influences (metrics, n) float32, in the order of the cell's scores, and the
signatures of the metrics: they count only beside a value of the same signature. Those of image
metrics follow from the scores.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.store.records import DamagedError, Record
from harness.store.rescored import FOLDER, scores_of
from harness.store.verified import compared
from methods.files import replaced

log = logging.getLogger(__name__)

FILE = "influences.npz"
OF = "files"  # in what came later: checksums of the files that it was computed from

Parts = dict[str, dict[str, np.ndarray]]  # protocol -> signature of a metric -> (n,)


def taken_out(found: Mapping[str, dict[str, Any]]) -> Parts:
    """Protocol -> what `found` has of it under "influences", no more in there afterwards.

    found: protocol -> with "signatures", by metric, as records hold them
    """
    parts: Parts = {}
    for protocol, one in found.items():
        influences = one.pop("influences", {})
        parts[protocol] = {one["signatures"][name]: v for name, v in influences.items()}
    return parts


def write(folder: Path, parts: Parts) -> None:
    """Beside a cell's scores."""
    (folder / FILE).write_bytes(_packed(parts))


def keep(record: Record, parts: Parts) -> None:
    """Add influences to a finished cell. Its lock is held."""
    known = _later(record)
    for protocol, one in parts.items():
        names = {_metric(text) for text in one}
        before = known.get(protocol, {}).items()
        known[protocol] = {k: v for k, v in before if _metric(k) not in names} | one
    with replaced(path_of(record)) as file:
        file.write(_packed(known, compared(record)))


def influences_of(record: Record, protocol: str) -> dict[str, np.ndarray]:
    """Metric -> (n,) in the order of the cell's scores, of the values that it has in a protocol."""
    later, own = _later(record).get(protocol, {}), _own(record).get(protocol, {})
    values, found = scores_of(record, protocol).signatures, own | later
    return {_metric(text): v for text, v in found.items() if values.get(_metric(text)) == text}


def path_of(record: Record) -> Path:
    return record.folder.parents[1] / FOLDER / f"{record.key}.npz"


def check(path: Path) -> tuple[Parts, dict[str, str]]:
    """What a file holds, and of which files it is. Raises OSError, ValueError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValueError(str(error)) from error
    of = json.loads(str(arrays.pop(OF, "{}")))
    signatures = {name.removesuffix(".of"): a for name, a in arrays.items() if name.endswith(".of")}
    if any(name not in arrays or len(arrays[name]) != len(s) for name, s in signatures.items()):
        raise ValueError("it does not say of which metrics its values are")
    return {p: dict(zip(s.tolist(), arrays[p])) for p, s in signatures.items()}, of


def _packed(parts: Parts, of: Mapping[str, str] | None = None) -> bytes:
    arrays: dict[str, np.ndarray] = {} if of is None else {OF: np.array(json.dumps(of))}
    for protocol, one in sorted(parts.items()):
        if one:
            arrays[protocol] = np.stack(list(one.values())).astype(np.float32)
            arrays[f"{protocol}.of"] = np.array(list(one))
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyrefly: ignore[bad-argument-type]
    return file.getvalue()


def _own(record: Record) -> Parts:
    path = record.folder / FILE
    if not path.exists():
        return {}
    record.check_contents(FILE)
    try:
        return check(path)[0]
    except (OSError, ValueError) as error:
        raise DamagedError(record.key, f"{path} cannot be read: {error}") from error


def _later(record: Record) -> Parts:
    """A damaged file is told, and counts as none."""
    path = path_of(record)
    try:
        parts, of = check(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s is damaged (%s): `relief rescore` computes it again", path, error)
        return {}
    return parts if of == compared(record) else {}


def _metric(signature: str) -> str:
    return signature.partition("|")[0]
