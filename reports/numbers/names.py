"""What reports call things, and in which order they list them."""

from __future__ import annotations

import math
import re

from harness.metrics import find
from harness.metrics.registry import PERCENT
from harness.metrics.shown import shown
from harness.store import COMMON, PAPER
from methods.names import METHODS

SETTINGS = {"rgb": "RGB", "3d": "3D", "rgb+3d": "RGB+3D"}
STATUSES = {
    "out_of_memory": "out of memory",
    "undefined": "n/a",
    "unscored": "not scored",
    "absent": "not asked for",
}
PROTOCOLS = {COMMON: "common protocol", PAPER: "papers' own protocol"}


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


def protocol_label(protocol: str) -> str:
    """ "common protocol", "common protocol at 512 px" of the longer side."""
    name, _, longest = protocol.partition("@")
    return PROTOCOLS.get(name, name) + (f" at {longest} px" if longest else "")


def status_label(status: str) -> str:
    return STATUSES.get(status, status)


def metric_label(metric: str) -> str:
    """ "AUPRO@0.05 exact", with its unit unless that is percent."""
    if (known := find(metric)) is None:
        return metric
    return known.label if known.unit == PERCENT else f"{known.label}, {known.unit}"


def board_label(metric: str, protocol: str) -> str:
    """ "P-AUROC, papers' own protocol"; of images, and of the common one, without."""
    known = find(metric)
    plain = protocol == COMMON or (known is not None and known.of_images)
    return metric_label(metric) + ("" if plain else f", {protocol_label(protocol)}")


def metric_order(metric: str) -> tuple:
    known = find(metric)
    return (known.order, metric) if known else ((math.inf,), metric)


def metric_text(metric: str, value: float | None) -> str:
    """A value as tables print it: shares in percent, others in their unit."""
    return shown(metric, value)
