"""What finished cells say beside their values: influences of images, signatures, whose data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from harness.metrics import Scored, find, known_metrics
from harness.metrics.influence import influences
from harness.metrics.intervals import Influence
from harness.store import COMMON, DONE, Record, Results
from harness.store.influences import influences_of
from harness.store.rescored import scores_of
from reports.numbers.data import prepared_of, published_data
from reports.numbers.frame import read_scores
from reports.numbers.stores import Checked

OfCells = Mapping[str, Mapping[str, str]]  # key -> metric -> text


@dataclass(frozen=True)
class Evidence:
    """By key of the cell, then by metric, in one protocol; what is not known is left out."""

    influences: Mapping[str, Mapping[str, Influence]] = field(default_factory=dict)
    signatures: OfCells = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)  # key -> whose (data.py: published_data)

    def influence(self, key: str, metric: str) -> Influence | None:
        return self.influences.get(key, {}).get(metric)

    def signature(self, key: str, metric: str) -> str:
        return self.signatures.get(key, {}).get(metric, "")


NONE = Evidence()
OF_IMAGES = ""  # in place of a protocol: what is the same in all


def read_evidence(
    store: Results, frame: pd.DataFrame, scores: Mapping[str, pd.DataFrame] | None = None
) -> Evidence:
    """Of the finished cells of a frame, in its protocol.

    scores: image scores by key (`read_scores`); read here if not given. A `Checked` store, which
    one report has, remembers it.
    """
    protocol = frame["protocol"].iloc[0] if len(frame) else COMMON
    keys = tuple(frame.loc[frame["status"] == DONE, "key"].unique())
    known = store.evidence if isinstance(store, Checked) else {}
    if (protocol, keys) not in known:
        tables = read_scores(store, frame) if scores is None else scores
        if (OF_IMAGES, keys) not in known:
            found = {key: of_scores(tables[key]) for key in keys if key in tables}
            known[OF_IMAGES, keys] = found
        known[protocol, keys] = _read(store, keys, tables, protocol, known[OF_IMAGES, keys])
    return known[protocol, keys]


def _read(
    store: Results,
    keys: Sequence[str],
    scores: Mapping[str, pd.DataFrame],
    protocol: str,
    of_images: Mapping[str, dict[str, Influence]],
) -> Evidence:
    found = {key: record for key in keys if (record := store.result(key)) and record.done}
    return Evidence(
        {
            key: of_images[key] | _of_pixels(found[key], scores[key], protocol)
            for key in found
            if key in scores
        },
        {key: signatures_of(record, protocol) for key, record in found.items()},
        {
            key: published_data(record, scores[key], prepared_of(store, record))
            for key, record in found.items()
            if key in scores
        },
    )


def _of_pixels(record: Record, table: pd.DataFrame, protocol: str) -> dict[str, Influence]:
    """Of the metrics of pixels."""
    labels, ids = table["label"].to_numpy(), table["id"].astype(str).tolist()
    known = influences_of(record, protocol).items()
    fitting = {name: values for name, values in known if len(values) == len(ids)}
    return {name: Influence.of(values, labels, ids) for name, values in fitting.items()}


def signatures_of(record: Record, protocol: str) -> dict[str, str]:
    """Metric -> signature of a finished cell, without parts that play no role in it."""
    known = scores_of(record, protocol).signatures.items()
    metrics = {name: find(name) for name, _ in known}
    return {name: m.comparable(text) if (m := metrics[name]) else text for name, text in known}


def of_scores(table: pd.DataFrame) -> dict[str, Influence]:
    """Of the metrics of images, from the image scores of a cell."""
    scores, labels = table["score"].to_numpy(float), table["label"].to_numpy()
    if not np.isfinite(scores).all():
        return {}
    metrics = [metric for metric in known_metrics() if metric.of_images]
    with warnings.catch_warnings():  # tables say of what there is no interval
        warnings.simplefilter("ignore", UserWarning)
        found = influences(Scored(scores, labels), metrics)
    ids = table["id"].astype(str).tolist()
    return {name: Influence.of(values, labels, ids) for name, values in found.items()}
