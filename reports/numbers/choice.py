"""Which test images a sheet shows: by a rule, the same for every method, or by id.

How hard an image is: the share of images of the other class on its wrong side, mean over methods.
Where a store kept the maps of some images only, rules choose among these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from harness.metrics.ranking import share_wrong
from methods.errors import UserError

MIDDLE, BEST, MEDIAN, WORST, DISAGREE = "middle", "best", "median", "worst", "disagree"
RULES = (MIDDLE, BEST, MEDIAN, WORST, DISAGREE)


def check_known(show: Sequence[str], tables: Iterable[pd.DataFrame]) -> None:
    """UserError for what is neither a rule nor the id of an image. tables: with all ids"""
    ids = {id: None for table in tables for id in table["id"]}  # in their order
    if unknown := [name for name in show if name not in RULES and name not in ids]:
        near = difflib.get_close_matches(unknown[0], [*RULES, *ids], 3, 0.6)
        such = (
            f"; did you mean {' or '.join(near)}?" if near else f", such as {next(iter(ids), '')}"
        )
        raise UserError(
            f"images: {unknown[0]!r} is none of {', '.join(RULES)}, nor the id of an image{such}"
        )


def chosen(
    listed: pd.DataFrame, tables: list[pd.DataFrame], show: Sequence[str], stored: set[str]
) -> pd.DataFrame:
    """Rows (id, defect, label, ...) of `listed`, good ones first, then as the test set lists them.

    listed: the test images in order; tables: their scores by method; stored: ids with a map
    show: of every defect type the image of each rule, and the images with these ids
    """
    wrong = np.stack([_wrong(table.set_index("id").loc[listed["id"]]) for table in tables])
    picks: list[int] = []
    for _, group in listed.reset_index(drop=True).groupby("defect", sort=False):
        there = group.index[group["id"].isin(stored)].to_numpy()
        for rule in show:
            if rule == MIDDLE:
                picks.append(int(group.index[len(group) // 2]))
            elif rule in RULES:
                picks.append(_pick(rule, there if len(there) else group.index.to_numpy(), wrong))
    picks += np.flatnonzero(listed["id"].isin(list(show))).tolist()
    return listed.iloc[sorted(set(picks))].sort_values("label", kind="stable")


def _pick(rule: str, images: np.ndarray, wrong: np.ndarray) -> int:
    """One of the images (row numbers) by how wrong the methods (M, N) have them."""
    mean, spread = wrong[:, images].mean(axis=0), wrong[:, images].std(axis=0)
    if rule == DISAGREE:
        return int(images[np.argmax(spread)])
    order = np.argsort(mean, kind="stable")
    return int(images[order[{BEST: 0, MEDIAN: len(order) // 2, WORST: -1}[rule]]])


def _wrong(table: pd.DataFrame) -> np.ndarray:
    return share_wrong(table["score"].to_numpy(float), table["label"].to_numpy() > 0)
