"""What the methods cost: time, throughput, memory and size.

One row for every dataset, setting, method and device, since times from different devices may not
be compared. Fit time is the mean over cells, latency and frames per second the median, memory the
largest. Throughput is the test images by the time to predict them in batches, median over cells.
A speed is valid only if every cell had its device for itself. Hours are the sum over cells of their
whole time on the device, shared or not.

What cells share (views, stages, made datasets) are jobs of their own, in `hours_frame`: every job
that the benchmark rests on, once. Failed and interrupted attempts are in neither.
"""

from __future__ import annotations

import pandas as pd

from harness.store import DONE, Record, Results
from reports.numbers.frame import all_marks
from reports.numbers.names import setting_order

GROUP = ["dataset", "setting", "method", "variant", "device"]
_HOW = {
    "fit_s": "mean",
    "predict_s": "mean",
    "latency_p50_s": "median",
    "latency_p95_s": "median",
    "end_to_end_p50_s": "median",
    "preprocess_p50_s": "median",
    "fps": "median",
    "throughput": "median",
    "host_peak_bytes": "max",
    "device_peak_bytes": "max",
    "parameters": "max",
    "weight_bytes": "max",
    "bank_bytes": "max",
    "macs": "max",
}
COLUMNS = [*GROUP, "cells", *_HOW, "hours", "speed_valid", "marks"]


def cost_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a (dataset, setting, method, variant, device), over its finished cells."""
    done = frame[frame["status"] == DONE].copy()
    if done.empty:
        return pd.DataFrame(columns=COLUMNS)
    done["device"] = done["device"].fillna("unknown").astype(str)
    numbers = ["test_images", *(set(_HOW) - {"throughput"}), "total_s"]
    done[numbers] = done[numbers].apply(pd.to_numeric)
    done["throughput"] = done["test_images"] / done["predict_s"]  # images/s
    groups = done.groupby(GROUP, sort=False)
    table = groups.agg(_HOW)
    table.insert(0, "cells", groups.size())
    table["hours"] = groups["total_s"].sum(min_count=1) / 3600
    table["speed_valid"] = groups["speed_valid"].agg(lambda valid: all(v is True for v in valid))
    table["marks"] = groups["marks"].agg(all_marks).map(";".join)
    table = table.reset_index()
    table["order"] = [setting_order(setting) for setting in table["setting"]]
    return table.sort_values(["dataset", "order"], kind="stable")[COLUMNS].reset_index(drop=True)


HOURS = ["work", "method", "jobs", "hours", "cpu_hours", "gpu_hours"]
WORK = {
    "dataset": "made datasets",
    "view": "views",
    "truth": "ground truths",
    "stage": "stages",
    "cell": "cells",
}


def hours_frame(store: Results, results: dict[str, Record]) -> pd.DataFrame:
    """Hours of all finished jobs that the results rest on, a row a kind of work and method.

    results: key -> result of the cells. hours: as the clock ran, summed over jobs; cpu_hours and
    gpu_hours: those times the share of CPUs and GPUs that the job had reserved.
    """
    jobs: dict[str, Record] = {}
    wanted = list(results)
    while wanted:
        key = wanted.pop()
        result = results.get(key) or store.result(key)
        if key not in jobs and result is not None and result.done:
            jobs[key] = result
            wanted += [*result.spec.needs.keys, *filter(None, [result.twin, result.truth])]
    rows = [_hours(job) for job in jobs.values() if "total_s" in job.timings]
    table = pd.DataFrame(rows, columns=HOURS).groupby(HOURS[:2], sort=False).sum().reset_index()
    order = table["work"].map(list(WORK.values()).index)
    return table.assign(order=order).sort_values(["order", "method"])[HOURS].reset_index(drop=True)


def _hours(job: Record) -> tuple:
    hours, environment = job.timings["total_s"] / 3600, job.environment
    gpus = environment.get("gpus")
    if gpus is None:  # of an earlier version, which did not say how much of the device it had
        gpus = float(environment.get("device", "cpu") != "cpu")
    cpus = environment.get("cpus") or 1
    method = job.spec.method if job.kind in ("cell", "stage") else ""
    return WORK[job.kind], method, 1, hours, cpus * hours, gpus * hours
