"""What the methods cost: time, throughput, memory and size.

One row for every dataset, setting, method and device, since times from different devices may not
be compared. Fit time is the mean over cells, latency and throughput the median, memory the
largest. A speed is valid only if every cell had its device for itself. Hours are the sum over cells
of their whole time on the device, shared or not; views and shared stages are jobs of their own and
not in it.
"""

from __future__ import annotations

import pandas as pd

from harness.store import DONE
from reports.frame import all_marks
from reports.names import setting_order

GROUP = ["dataset", "setting", "method", "variant", "device"]
_HOW = {
    "fit_s": "mean",
    "predict_s": "mean",
    "latency_p50_s": "median",
    "latency_p95_s": "median",
    "end_to_end_p50_s": "median",
    "preprocess_p50_s": "median",
    "fps": "median",
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
    numbers = [*_HOW, "total_s"]
    done[numbers] = done[numbers].apply(pd.to_numeric)
    groups = done.groupby(GROUP, sort=False)
    table = groups.agg(_HOW)
    table.insert(0, "cells", groups.size())
    table["hours"] = groups["total_s"].sum(min_count=1) / 3600
    table["speed_valid"] = groups["speed_valid"].agg(lambda valid: all(v is True for v in valid))
    table["marks"] = groups["marks"].agg(all_marks).map(";".join)
    table = table.reset_index()
    table["order"] = [setting_order(setting) for setting in table["setting"]]
    return table.sort_values(["dataset", "order"], kind="stable")[COLUMNS].reset_index(drop=True)
