"""How values of metrics and costs are printed: in tables, lines, pages and MLflow's notes alike.

Shares are percent with one digit after the point; files for scripts have them as they are.
"""

from __future__ import annotations

import math

from harness.metrics.registry import PERCENT, find


def shown(name: str, value: float | None) -> str:
    """As tables print it, without its unit; a dash where there is none.

    What is no metric, such as the seconds of a fit, has four digits.
    """
    if (known := find(name)) is not None:
        return known.shown(value)
    return "–" if value is None or math.isnan(value) else f"{value:.4g}"


def quantity(name: str, value: float | None) -> str:
    """With its unit: "98.2 %"."""
    return f"{shown(name, value)} {unit(name)}".rstrip()


def told(name: str, value: float | None) -> str:
    """With name and unit: "I-AUROC 98.2 %"."""
    return f"{label(name)} {quantity(name, value)}"


def difference(name: str, value: float) -> str:
    """With its sign, without its unit: "+0.4", of shares in points of percent."""
    return ("" if value < 0 else "+") + shown(name, value).replace("-", "−")


def label(name: str) -> str:
    """ "I-AUROC"; the name of what is no metric."""
    return known.label if (known := find(name)) is not None else name


def unit(name: str) -> str:
    return known.unit if (known := find(name)) is not None else ""


def heading(name: str) -> str:
    """Of a column of its values: "I-AUROC, %"."""
    return ", ".join(filter(None, (label(name), unit(name))))


def unit_of_differences(name: str) -> str:
    """The unit of its differences."""
    return "points" if unit(name) == PERCENT else unit(name)
