"""What is checked before a fit is paid for, and of its results before all samples are predicted.

A method's mistake that shows only at the end would cost the whole fit.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.data.cache import Truth
from methods.contract import Prediction, Samples

STATES = 8  # of a network: itself, Adam's two moments and the best so far, in two checkpoints
SPARE_BYTES = 64 * 2**20  # for records, scores and whoever else writes


def check_samples(splits: Mapping[str, Samples], truth: Truth) -> None:
    """Raise ValueError unless all splits have the same arrays, and the test's masks fit them."""
    train = splits["train"]
    if not len(train):
        raise ValueError("the view has no training sample")
    wanted = _kinds(train)
    for split, samples in splits.items():
        if len(samples) and _kinds(samples) != wanted:
            raise ValueError(
                f"the view's {split} samples have the arrays {_kinds(samples)}, and its training "
                f"samples {wanted}"
            )
    if len(truth.masks) != len(splits["test"]):
        raise ValueError(f"the view has {len(truth.masks)} masks for {len(splits['test'])} samples")


def _kinds(samples: Samples) -> dict[str, str]:
    return {k: f"{v.dtype} {list(v.shape[1:])}" for k, v in sorted(samples.arrays.items())}


def check_unfitted(name: str, made: Any) -> None:
    """Check what a method or stage says of itself before the fit, where it answers already."""
    for ask, check in (("notes", checked_notes), ("sizes", checked_sizes)):
        try:
            found = getattr(made, ask)()
        except Exception:  # it may well need the fit, and is asked again after it
            continue
        check(name, found)


def checked_notes(name: str, found: Any) -> dict[str, str]:
    """What `notes()` returned. TypeError with method and value unless texts by name."""
    return _checked(name, "notes", found, "text", lambda v: isinstance(v, str), str)


def checked_sizes(name: str, found: Any) -> dict[str, int]:
    """What `sizes()` returned. TypeError with method and value unless whole numbers by name."""
    return _checked(
        name,
        "sizes",
        found,
        "whole number",
        lambda v: isinstance(v, Integral) and not isinstance(v, bool),
        int,
    )


def _checked(
    name: str, ask: str, found: Any, wanted: str, fits: Callable[[Any], bool], kind: type
) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        raise TypeError(f"{name}: {ask}() returned {found!r:.200}; it must be a mapping")
    for key, value in found.items():
        if not isinstance(key, str):
            raise TypeError(f"{name}: {ask}() has the name {key!r:.200}; names must be texts")
        if not fits(value):
            raise TypeError(
                f"{name}: {ask}() says {key!r} is {value!r:.200}, a {type(value).__name__}; "
                f"it must be a {wanted}"
            )
    return {key: kind(value) for key, value in found.items()}


def check_space(folder: Path, masks: np.ndarray, kept: int, method: Any) -> None:
    """Raise OSError (ENOSPC) if the disk of `folder` cannot take what a cell will write.

    kept: how many maps, of the masks' size; and, where `sizes()` answers before the fit, its
    checkpoints and its state. What a memory bank will weigh is not known before.
    """
    needed = kept * masks[0].size * 4 + SPARE_BYTES if len(masks) else SPARE_BYTES
    with suppress(Exception):  # as in check_unfitted
        needed += (STATES + 1) * int(method.sizes().get("weight_bytes", 0))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"the job will write about {needed / 1e9:.2f} GB (maps, checkpoints) and "
            f"{folder} has {free / 1e9:.2f} GB left: free some space and run the same command",
        )


def check_prediction(
    name: str, found: Prediction, samples: Sequence[str], size: tuple[int, ...] | None
) -> None:
    """Raise ValueError unless maps (B, H, W) and scores (B,) are finite floats of the right size.

    TypeError for what is no Prediction of tensors. samples: names of the batch's, for errors;
    size: (H, W) of the masks, px; None: any
    """
    if not isinstance(found, Prediction):
        raise TypeError(
            f"{name}: predict returned {_kind(found)}; it must be a methods.contract.Prediction"
        )
    maps, scores = found.maps, found.scores
    for part, values in (("maps", maps), ("scores", scores)):
        if not torch.is_tensor(values):
            raise TypeError(
                f"{name}: predict returned {part} that are {_kind(values)}, and no torch.Tensor"
            )
        if values.requires_grad:
            raise ValueError(
                f"{name}: predict returned {part} that hold a graph: predict under "
                "torch.inference_mode()"
            )
    if maps.ndim != 3 or len(maps) != len(samples) or scores.shape != (len(samples),):
        raise ValueError(
            f"{name}: predict returned maps {tuple(maps.shape)} and scores "
            f"{tuple(scores.shape)} for {len(samples)} samples; "
            "the contract says (B, H, W) and (B,)"
        )
    if size is not None and tuple(maps.shape[1:]) != tuple(size):
        raise ValueError(
            f"{name}: predict returned maps of {tuple(maps.shape[1:])} px, and the masks have "
            f"{tuple(size)}"
        )
    for part, values in (("maps", maps), ("scores", scores)):
        if not torch.is_floating_point(values):
            raise ValueError(f"{name}: predict returned {part} of {values.dtype}, not of float32")
        if not bool(values.isfinite().all()):
            bad = [i for i, v in zip(samples, values) if not bool(v.isfinite().all())]
            raise ValueError(f"{name}: predict returned {part} that are not finite, of {bad[0]}")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
