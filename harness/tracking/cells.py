"""What MLflow shows of a cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from harness.store import COMMON, IDENTITY, Record, Store, canonical
from harness.store.curve import ASIDE, Points
from harness.store.records import CURVES, RESULT, SCORES
from harness.store.specs import Spec
from harness.store.timed import Timing, speed_of, timing_of
from harness.tracking.content import (
    FAILED,
    FINISHED,
    KEY,
    LAUNCH,
    Content,
    Point,
    milliseconds,
    plain_name,
    text_of,
)

LAST, BEST = "last", "best_validation"  # steps whose network is tested
METRIC = "training.metric"  # by which the best is told
ARTIFACTS = (SCORES, CURVES, *ASIDE)  # beside the record


def entry_of(cell: Mapping[str, Any]) -> str:
    """Method and variant as a configuration names them."""
    return "/".join(filter(None, (cell["method"], cell["variant"])))


def cell_content(
    store: Store,
    launch: dict[str, Any],
    cell: dict[str, Any],
    record: Record,
    changed: float,
    tags: dict[str, str],
) -> Content:
    """changed: when its record was written, s since 1970, for records that do not say."""
    identity = {name: str(cell[name]) for name in IDENTITY}
    ended = record.ended or changed
    at = milliseconds(ended)  # not the clock's time: logging twice adds nothing
    timed = timing_of(record)
    altered = launch.get("parameters", {}).get(entry_of(cell), {})
    apart = _apart(record.spec)
    common = record.protocols.get(COMMON, {}).get("metrics", {})
    values = {**record.metrics, **{f"{COMMON}/{k}": v for k, v in common.items()}, **_costs(record)}
    points = [
        Point(plain_name(name), float(value), _when(name, at, timed), 0)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    ]
    for name, curve in _curves(store, record).items():
        points += [Point(plain_name(name), value, at, step) for step, value in curve]
    return Content(
        name=" ".join(word for word in (*identity.values(), *_words(record.spec)) if word),
        status=FINISHED if record.done else FAILED,
        started=record.started or ended,
        ended=ended,
        tags=identity
        | _about(record)
        | {name.removeprefix("training."): v for name, v in apart.items() if name != METRIC}
        | {
            LAUNCH: launch["id"],
            KEY: cell["key"],
            "marks": ",".join(_marks(launch, cell, record)),
            "demo": str(bool(launch.get("demo"))).lower(),
        }
        | _timed_again(timed)
        | tags,
        params=identity | apart | {name: text_of(value) for name, value in altered.items()},
        points=points,
        files=_files(record) | {"settings.yaml": _settings(canonical(_told_settings(record)))},
    )


def _apart(spec: Spec) -> dict[str, str]:
    """What tells cells of one identity apart beside their settings, by its name in a configuration.

    Which step is tested is said of each that was computed here, so that it can be compared.
    """
    found = {} if spec.imported else {"training.selection": LAST}
    if chosen := spec.selection:
        found = {"training.selection": BEST, METRIC: str(chosen.get("metric", ""))}
    if spec.train_samples is not None:
        found["train_samples"] = str(spec.train_samples)
    return found


def _words(spec: Spec) -> list[str]:
    """The same in a run's name, as far as it is not usual."""
    chosen = [BEST, spec.selection.get("metric", "")] if spec.selection else []
    few = spec.train_samples
    return chosen if few is None else [*chosen, f"{few} samples"]


def _about(record: Record) -> dict[str, str]:
    """How it ended, and with which code on which machine."""
    environment = record.environment
    commit = str(environment.get("commit") or "")
    return {
        "status": record.status,
        "reason": record.reason,
        "device": environment.get("device") or "",
        "host": environment.get("host") or "",
        "code": environment.get("code") or "",
        "commit": commit,
        "version": (environment.get("versions") or {}).get("relief-bench", ""),
        "mlflow.source.name": "relief",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit.removesuffix("+"),  # shown as the run's version
        **{f"note.{name}": value for name, value in record.notes.items()},
    }


def _marks(launch: dict[str, Any], cell: dict[str, Any], record: Record) -> list[str]:
    given = (record.marks, cell.get("marks") or [], launch.get("marks") or [])
    return list(dict.fromkeys(mark for marks in given for mark in marks))


def _when(name: str, at: int, timed: Timing | None) -> int:
    """Of a point, ms: of two values at one step MLflow shows the later."""
    return milliseconds(timed.when) if timed and name.startswith("speed/") else at


def _timed_again(timed: Timing | None) -> dict[str, str]:
    """When the speed was measured, if that was not with the cell, and who else was at work."""
    if timed is None:
        return {}
    when = datetime.fromtimestamp(timed.when, UTC).isoformat(timespec="seconds")
    return {"timed_again": when, "timed_beside": timed.others or "nobody"}


def _costs(record: Record) -> dict[str, float]:
    groups = {
        "time": record.timings,
        "speed": speed_of(record),
        "memory": record.memory,
        "size": record.sizes,
    }
    return {
        f"{prefix}/{name}": float(value)
        for prefix, group in groups.items()
        for name, value in group.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _curves(store: Store, record: Record, prefix: str = "") -> dict[str, Points]:
    """Name of a metric -> points of a curve over training, of the cell and of its stages."""
    curves = record.losses() if record.done else {}
    found = {f"loss/{prefix}{phase}": points for phase, points in curves.items()}
    for look in record.looks() if record.done else ():
        for name, value in look.metrics.items():
            found.setdefault(f"validation/{prefix}{look.phase}/{name}", []).append(
                (look.step, value)
            )
    for name, key in record.spec.needs.stages.items():
        if stage := store.result(key):
            found |= _curves(store, stage, f"{name}-")
    return found


def _files(record: Record) -> dict[str, Path | str]:
    if not record.done:
        return {}
    there = {n: record.folder / n for n in ARTIFACTS if (record.folder / n).exists()}
    # as text, since a further name of the file would change its state, by which the index knows it
    return {RESULT: (record.folder / RESULT).read_text(encoding="utf-8"), **there}


def _told_settings(record: Record) -> dict[str, Any]:
    few = record.spec.train_samples
    told = {} if few is None else {"train_samples": few}
    return told | {record.spec.method: record.spec.settings}


@lru_cache(maxsize=64)  # most cells of a launch have the same
def _settings(values: str) -> str:
    """Settings, given as JSON, as the YAML of a configuration."""
    return yaml.safe_dump(yaml.safe_load(values), default_flow_style=None, sort_keys=False)
