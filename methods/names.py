"""What papers call the methods, and which are no paper's.

No torch here, so that reports may read it, too.
"""

from __future__ import annotations

METHODS = {
    "dbrn": "DBRN",
    "3dsr": "3DSR",
    "das3d": "DAS3D",
    "m3dm": "M3DM",
    "shape_guided": "Shape-Guided",
    "baseline": "Baseline",
}
BASELINE = "baseline"  # what every other method should beat
BASELINES = (BASELINE, f"{BASELINE}/plane", f"{BASELINE}/colour")  # as a configuration lists them
MULTI_SCALE = ("ms", "multi_scale")  # our variants of DBRN that the paper prints as "Ours(MS)"


def printed_name(method: str, variant: str, setting: str) -> tuple[str, str]:
    """(method_key, variant) of the published rows for a method and variant of ours."""
    if method == "3dsr" and setting == "rgb":
        return "dsr", variant  # 3DSR without depth is DSR, and papers print DSR there
    if method == "dbrn" and variant in MULTI_SCALE:
        return "dbrn_ms", ""
    return method, variant


def our_method(method_key: str) -> str:
    """The method of ours that a key of the published rows stands for."""
    return {"dsr": "3dsr", "dbrn_ms": "dbrn"}.get(method_key, method_key)
