"""What reports call things, and in which order they list them."""

from __future__ import annotations

import re

from methods.names import METHODS

SETTINGS = {"rgb": "RGB", "3d": "3D", "rgb+3d": "RGB+3D"}
METRICS = {
    "i_auroc": "I-AUROC",
    "aupro_0.3": "AUPRO@0.3",
    "p_auroc": "P-AUROC",
    "i_ap": "I-AP",
    "i_f1max": "I-F1max",
    "p_ap": "P-AP",
    "p_f1max": "P-F1max",
}
STATUSES = {"out_of_memory": "out of memory", "undefined": "n/a", "absent": "not asked for"}


def file_name(name: str) -> str:
    """A file name that stays inside its folder, whatever the data are called."""
    return re.sub(r"[^\w+. -]", "_", name).strip(". ") or "_"


def method_label(method: str, variant: str = "") -> str:
    name = METHODS.get(method, method)
    return f"{name} ({variant})" if variant else name


def setting_label(setting: str) -> str:
    return SETTINGS.get(setting, setting)


def setting_order(setting: str) -> tuple:
    known = list(SETTINGS)
    return (known.index(setting) if setting in known else len(known), setting)


def status_label(status: str) -> str:
    return STATUSES.get(status, status)


def metric_label(metric: str) -> str:
    """ "aupro_exact_0.05" -> "AUPRO@0.05 exact"; the plain form has the papers' 100 thresholds."""
    if match := re.fullmatch(r"aupro(_exact)?_([\d.]+)", metric):
        return f"AUPRO@{match[2]}" + (" exact" if match[1] else "")
    return METRICS.get(metric, metric)


def metric_order(metric: str) -> tuple:
    """The best-known first, then AUPRO from the widest limit down, then the rest by name."""
    if metric in METRICS:
        return (0, list(METRICS).index(metric), "")
    if match := re.fullmatch(r"aupro(_exact)?_([\d.]+)", metric):
        return (1, -float(match[2]), match[1] or "")
    return (2, 0, metric)
