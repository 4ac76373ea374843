"""A fit that is done outlives a failure of what comes after it.

    work/KEY/fitted/           what `Method.save` wrote
    work/KEY/fitted/kept.json  sizes and checksums of these files and what the fit took, written
                               last: seeing it proves that all the others are there

The next attempt at the same job loads it instead of fitting. Publishing the job drops it; where the
fitted method is asked for, the folder becomes model/.

Saving costs a write of the method's state, against a fit that took KEEP_FROM_S or more (figures:
tests/benchmarks/README.md). A shorter fit is sooner done again than worth a file. A fit is taken up
under its job's key alone: whoever changes what `fit` computes raises the method's version, as ever.

Stages have no `load`: they keep their checkpoints until they are published, and go on from these.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.store import Store, write_json
from harness.store.files import checksum, sync_tree
from harness.store.records import MODEL
from methods import checkpoints

log = logging.getLogger(__name__)

FITTED, MARK = "fitted", "kept.json"
KEEP_FROM_S = 5.0  # a fit that took less is not kept
SCRATCH = (FITTED, f"{MODEL}/{MARK}", *checkpoints.NAMES)  # in a work folder, and not in a result


def keep(method: Any, work: Path, about: dict[str, Any]) -> None:
    """Save a fitted method below a job's work folder, on disk when this returns.

    about: plain values that go with it, e.g. the seconds of the fit
    """
    folder = work / FITTED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    method.save(folder)
    sync_tree(folder)
    write_json(folder / MARK, {"files": _files(folder), "about": about})


def take_up(
    make: Callable[[], Any], store: Store, key: str, work: Path
) -> tuple[Any, dict[str, Any]] | None:
    """The fitted method that an earlier attempt kept, and what was kept with it; None without.

    make: -> a fresh method. A state that is damaged or cannot be loaded is set aside, with a line.
    """
    folder = next((f for f in (work / FITTED, work / MODEL) if (f / MARK).exists()), None)
    if folder is None:
        shutil.rmtree(work / FITTED, ignore_errors=True)  # of an attempt that was killed saving it
        return None
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if mark["files"] != _files(folder):
            raise ValueError("its files are not those that were written")
        method, about = make(), dict(mark["about"])
        method.load(folder)
    except Exception as error:  # whatever a method's load may raise: it is fitted again
        aside = store.path / "damaged" / f"{FITTED}-{key}-{uuid.uuid4().hex[:6]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder, aside)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        log.warning("the kept fit cannot be loaded (%s): set aside %s, fitted again", reason, aside)
        return None
    log.info("fit=kept seconds=%.1f: going on after it", about.get("fit_s", 0.0))
    return method, about


def hand_over(method: Any, work: Path) -> None:
    """Leave the fitted method as model/, by a rename where it was kept."""
    model = work / MODEL
    if (model / MARK).exists():
        return
    shutil.rmtree(model, ignore_errors=True)
    if (work / FITTED / MARK).exists():
        os.replace(work / FITTED, model)
        return
    model.mkdir()
    method.save(model)


def _files(folder: Path) -> dict[str, list]:
    return {
        path.relative_to(folder).as_posix(): [path.stat().st_size, checksum(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARK
    }
