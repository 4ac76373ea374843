"""A method on a few synthetic samples: for the contract suite, and to time it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import methods
from harness.data import synthetic
from harness.data.blind import blind
from harness.data.cache import open_split, open_truth
from harness.data.datasets import open_dataset
from harness.data.synthetic.generate import write_category
from harness.data.views.build import PARTS, build_view
from methods.contract_suite import Case
from methods.fitness import check_view

CATEGORY, SIZE_PX = "cookie", 100  # a multiple of 100, which BTF's padding keeps
SAMPLES = {"train": 6, "validation": 2, "good": 3, "per_defect": 1}


def rehearsal(
    name: str,
    settings: Any,
    setting: str,
    folder: Path,
    samples: Mapping[str, Any] = SAMPLES,
    sharp: bool = False,
) -> Case:
    """The case of a method: its view of a small made category, blind as in a benchmark.

    folder: an empty one, for data and whatever the method saves; sharp: scans have at least as
    many pixels as the view
    """
    cls = methods.get(name)
    view = cls.view(settings, setting)
    check_view(cls, view)
    px = SIZE_PX * -(-getattr(view, "size", SIZE_PX) // SIZE_PX) if sharp else SIZE_PX
    spec = replace(synthetic.PRESETS["tiny"], size=px, categories=(CATEGORY,), **samples)
    write_category(folder / "data", CATEGORY, spec)
    category = open_dataset("mvtec3d", folder / "data").category(CATEGORY)
    build_view(category, view, folder / "view")

    def shown(split: str) -> Any:
        samples, truth = open_split(folder / "view", split)
        return blind(samples, CATEGORY, "rehearsal", draw=truth is not None).samples

    def fresh(what: str) -> Path:
        made = folder / f"{what.replace('/', '_')}-{uuid.uuid4().hex[:6]}"
        made.mkdir()
        return made

    _, truth = open_truth(folder / "view", "test")
    height, width = truth.masks.shape[1:]
    data = {split: shown(split) for split in PARTS}
    return Case(cls, settings, setting, data, fresh, CATEGORY, size=(height, width))
