"""The results of a launch as one tidy table, read from files alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.metrics import Metric, acquaint, find, known_metrics, lacking
from harness.store import COMMON, DONE, PAPER, PROTOCOLS, Record, Results
from harness.store import IDENTITY as OF_A_CELL
from harness.store.influences import influences_of
from harness.store.rescored import Scores, read, scores_of
from harness.store.timed import device_of, speed_of
from methods.errors import UserError
from methods.marks import ALTERED
from reports.numbers.data import unsure_lines
from reports.numbers.names import metric_label, metric_order

PENDING = "pending"  # asked for, no result yet
UNSCORED = "unscored"  # done, but this metric was not computed for it in this protocol
UNDEFINED = "undefined"  # done, but the metric has no value, e.g. with one class only

_BOARD = ("dataset", "setting")  # what tables are grouped by stands first
IDENTITY = (*_BOARD, *(name for name in OF_A_CELL if name not in _BOARD))
OUTCOME = ("key", "status", "reason", "marks", "attempt")
COST = {
    "timings": ("fit_s", "predict_s", "metrics_s", "total_s"),
    "counts": ("test",),
    "speed": (
        "latency_p50_s",
        "latency_p95_s",
        "fps",
        "end_to_end_p50_s",
        "preprocess_p50_s",
        "valid",
    ),
    "memory": ("host_peak_bytes", "device_peak_bytes"),
    "sizes": ("parameters", "weight_bytes", "bank_bytes", "macs"),
    "environment": ("device", "cpus", "gpus", "threads", "commit"),
}
RENAMED = {"valid": "speed_valid", "test": "test_images"}


def read_results(store: Results, launch: dict) -> dict[str, Record]:
    """key -> record, for the cells of the launch that have one, done or not."""
    found = {cell["key"]: store.result(cell["key"]) for cell in launch["cells"]}
    return {key: result for key, result in found.items() if result is not None}


def results_frame(
    store: Results,
    launch: dict,
    results: dict[str, Record] | None = None,
    protocol: str = COMMON,
) -> pd.DataFrame:
    """One row a cell, in the launch's order; a cell without a result is "pending".

    Columns: IDENTITY, OUTCOME, protocol, unscored (metrics that a finished cell lacks in it), every
    metric found (NaN unless the cell is done), the columns of COST (as RENAMED), started, ended,
    inputs (the settings that gave it files).
    Pass `results` if they are already read. protocol: harness/metrics/README.md, section 1
    """
    results = read_results(store, launch) if results is None else results
    scores = {key: scores_of(r, protocol) for key, r in results.items() if r.done}
    for known in scores.values():
        acquaint(known.outside)
    found = {name for known in scores.values() for name in known.metrics}
    if protocol in PROTOCOLS:  # of another one only what was asked for
        found |= {name for result in results.values() for name in result.metrics}
    metrics = sorted(filter(find, found), key=metric_order)
    cells = [marked(launch, cell) for cell in launch["cells"]]
    rows = [
        _row(cell, results.get(cell["key"]), scores.get(cell["key"]), metrics, protocol)
        for cell in cells
    ]
    if not rows:
        return pd.DataFrame([_row({}, None, None, metrics, protocol)]).iloc[:0]
    frame = pd.DataFrame(rows).drop_duplicates([*IDENTITY, "key"], ignore_index=True)
    twice = frame[frame.duplicated(list(IDENTITY), keep=False)]
    if len(twice):
        names = ", ".join(str(v) for v in twice.iloc[0][list(IDENTITY)])
        raise UserError(
            f"launch {launch['id']} has {twice.iloc[0]['key']} and {twice.iloc[1]['key']} both as "
            f"({names}): give one of them another variant name, they cannot share a row"
        )
    return frame


def protocols_of(results: Mapping[str, Record]) -> tuple[str, ...]:
    """Those that cells were scored in: the two of every cell, then common@PIXELS by size."""
    done = [record for record in results.values() if record.done]
    found = {name for record in done for name in (*record.protocols, *read(record))}
    return (*PROTOCOLS, *sorted(found - set(PROTOCOLS), key=lambda name: (len(name), name)))


def unscored_lines(launch: dict, results: dict[str, Record]) -> list[str]:
    """What finished cells lack, have of another version or failed in, and what mends it."""
    done = {key: result for key, result in results.items() if result.done}
    again = " and ".join(f"`relief rescore {part}`" for part in launch.get("parts", [launch["id"]]))
    lines, failed = [], defaultdict[str, dict[str, str]](dict)
    names = {name for record in done.values() for name in record.metrics}
    for protocol in PROTOCOLS:
        missing: list[list[Metric]] = []
        stale: list[list[Metric]] = []
        for key, record in done.items():
            known = scores_of(record, protocol)
            acquaint(known.outside)
            names |= set(known.metrics)
            lacks = lacking(known_metrics(), known.signatures)
            lacks = [metric for metric in lacks if metric.name not in known.failures]
            missing.append([metric for metric in lacks if metric.name not in known.signatures])
            stale.append([metric for metric in lacks if metric.name in known.signatures])
            for name, why in known.failures.items():
                failed[name][key] = why
        what = "the common protocol" if protocol == COMMON else "the papers' own protocol"
        for cells, words in ((missing, "lack"), (stale, "have another version of")):
            if count := sum(map(bool, cells)):
                labels = list(dict.fromkeys(metric.label for lacks in cells for metric in lacks))
                more = f" and {len(labels) - 4} more" if labels[4:] else ""
                listed = ", ".join(labels[:4]) + more
                lines.append(
                    f"{count} of {len(done)} finished cells {words} {listed} in {what}: "
                    f"{again} computes them from the stored maps, without a fit."
                )
    for name, whys in failed.items():
        lines.append(
            f"{metric_label(name)} failed in {len(whys)} of {len(done)} finished cells: "
            f"{next(iter(whys.values()))}. Once that is mended, {again} computes it."
        )
    lines += _bare_lines(list(done.values()), again)
    lines += unsure_lines(done.values())
    if unknown := {name for name in names if find(name) is None}:
        lines.append(
            f"Left out, since no plug-in that is loaded knows them: {', '.join(sorted(unknown))} "
            "(--plugin)."
        )
    return lines


def _bare_lines(done: Sequence[Record], again: str) -> list[str]:
    """Of how many finished cells the metrics of pixels have no intervals, and what mends it."""
    bare = [record for record in done if _is_bare(record)]
    kept = [record for record in bare if record.maps_kept == record.counts.get("test")]
    lines = []
    if kept:
        lines.append(
            f"{len(kept)} of {len(done)} finished cells lack what intervals of pixel metrics are "
            f"made of: {again} computes it from the stored maps, without a fit."
        )
    if gone := len(bare) - len(kept):
        lines.append(
            f"{gone} of {len(done)} finished cells have no intervals of pixel metrics: they were "
            "scored by an earlier version and did not keep all maps."
        )
    return lines


def _is_bare(record: Record) -> bool:
    known = influences_of(record, COMMON) or influences_of(record, PAPER)
    scored = [find(name) for name in scores_of(record, PAPER).metrics]
    return not known and any(m is not None and m.weighted and not m.of_images for m in scored)


def marked(launch: dict, cell: dict) -> dict:
    """The cell with the marks that the launch gives it, whatever its result says.

    How settings were chosen is a fact of the launch: another may have computed the same result.
    """
    own = cell.get("marks", [])
    if cell["method"] in launch.get("altered", ()) and not launch.get("demo"):
        own = [ALTERED, *own]
    return cell | {"marks": [*launch.get("marks", []), *own]}


def all_marks(cells: pd.Series) -> tuple[str, ...]:
    """The distinct marks in a column of them, in their order."""
    return tuple(dict.fromkeys(m for marks in cells for m in marks.split(";") if m))


def metric_names(frame: pd.DataFrame) -> list[str]:
    """Those that the registry knows; of others neither direction nor unit is known."""
    return [name for name in frame.columns if find(name)]


def read_scores(store: Results, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """key -> per-image scores (id, defect, label, score, in test order) of the finished cells."""
    done = frame.loc[frame["status"] == DONE, "key"].unique()
    records = {key: store.result(key) for key in done}
    tables = {key: record.scores() for key, record in records.items() if record and record.done}
    return {key: table.to_pandas() for key, table in tables.items() if table is not None}


def printable(value: Any) -> str:
    """Text from logs and errors without terminal codes and what UTF-8 cannot carry."""
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", str(value))
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)
    return text.encode("utf-8", "replace").decode()


def _row(
    cell: dict, result: Record | None, scores: Scores | None, metrics: list[str], protocol: str
) -> dict:
    """result: None where there is none yet; scores: None unless it is done"""
    row: dict[str, Any] = {name: printable(cell.get(name) or "") for name in IDENTITY}
    row["seed"] = int(cell.get("seed", 0))
    marks = [*(result.marks if result else ()), *cell.get("marks", [])]
    row |= {
        "key": cell.get("key", ""),
        "status": result.status if result else PENDING,
        "reason": printable(result.reason) if result else "",
        "marks": ";".join(dict.fromkeys(map(printable, marks))),
        "attempt": result.attempt if result else None,
    }
    known = scores.metrics if scores else {}
    lacks = [name for name in metrics if name not in known] if scores else []
    row |= {"protocol": protocol, "unscored": ";".join(lacks)}
    for name in metrics:
        value = known.get(name)
        row[name] = float("nan") if value is None else float(value)
    for part, names in COST.items():
        found = _costs(result, part) if result else {}
        row |= {RENAMED.get(name, name): found.get(name) for name in names}
    row["device"] = device_of(result.environment) if result else None
    times = (result.started, result.ended) if result else (None, None)
    row |= dict(zip(("started", "ended"), times))
    return row | {"inputs": ";".join(result.spec.values.get("inputs", {})) if result else ""}


def _costs(result: Record, part: str) -> Mapping[str, Any]:
    return speed_of(result) if part == "speed" else getattr(result, part)
