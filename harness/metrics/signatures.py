"""What exactly a number is: one line per metric, printed beside it in every table.

"aupro_0.3|curve:pro|thresholds:100|conn:8|res:224x224|mask:>0|v:1" and the same name with
"thresholds:all" are different metrics; equal signatures may be compared, others may not.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.metrics.pixel import LIMITS, THRESHOLDS

VERSION = 1  # raise it whenever a change here changes a number


def signatures(
    resolution: int | Sequence[int] | str, mask_rule: str = ">0", limits: Sequence[float] = LIMITS
) -> dict[str, str]:
    """Metric name -> signature.

    resolution: of maps and masks, px: 224, (400, 900) as (height, width), or "native" for mixed
    sizes. mask_rule: how mask values became {0, 1}; evaluate itself applies ">0".
    """
    if isinstance(resolution, int):
        resolution = (resolution, resolution)
    size = resolution if isinstance(resolution, str) else "x".join(str(side) for side in resolution)

    def sign(name: str, curve: str, thresholds="all", connectivity="none") -> str:
        return (
            f"{name}|curve:{curve}|thresholds:{thresholds}|conn:{connectivity}|res:{size}"
            f"|mask:{mask_rule}|v:{VERSION}"
        )

    curves = {"auroc": "roc", "ap": "precision-recall", "f1max": "f1"}
    lines = {f"{level}_{m}": sign(f"{level}_{m}", c) for level in "ip" for m, c in curves.items()}
    for limit in limits:
        name, exact = f"aupro_{limit:g}", f"aupro_exact_{limit:g}"
        lines[name] = sign(name, "pro", THRESHOLDS, 8)
        lines[exact] = sign(exact, "pro", "all", 8)
    return lines
