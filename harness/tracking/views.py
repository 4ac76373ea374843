"""What MLflow's pages open with: descriptions, and views that are saved in an experiment.

MLflow keeps a saved view (columns, filter, order, charts) as a tag of its experiment, in the form
that its own pages write ("Views" above the runs); an address can name one. Which rows are expanded
it does not keep, so that the views show children without their parents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.tracking.content import (
    LAUNCH,
    LONGEST,
    NOTE,
    PARENT,
    digest_of,
    milliseconds,
    plain_name,
)

CLASSIC = "workflowType=machine_learning"  # in an address, else the page opens for GenAI
VIEW = "mlflow.sharedViewState."  # and the view's id
OWN_NOTE = "relief.note"  # digest of the description that we wrote last
TAGS = ("method", "variant", "setting", "category", "seed", "marks")
AXES, COLUMNS = 10, 30  # the most settings in one parallel-coordinates chart, and in the table


def describe(client: Any, experiment_id: str, text: str) -> None:
    """Set an experiment's description, unless somebody has written one there."""
    text = text[: LONGEST["tag"]]
    tags = client.get_experiment(experiment_id).tags
    known = tags.get(NOTE, "")
    if known == text or (known and digest_of(known) != tags.get(OWN_NOTE)):
        return
    client.set_experiment_tag(experiment_id, NOTE, text)
    client.set_experiment_tag(experiment_id, OWN_NOTE, digest_of(text))


def save_view(
    client: Any,
    experiment_id: str,
    about: Mapping[str, Any],
    metrics: Sequence[str],
    settings: Sequence[str],
) -> None:
    """The runs of a launch or a sweep, best first, as a table and as charts.

    about: its record; metrics: columns, the first gives the order; settings: columns, too, and
    the axes of a parallel-coordinates chart
    """
    name = about["id"]
    metrics, settings = [*map(plain_name, metrics)], [*map(plain_name, settings)]
    columns = [f"tags.`{tag}`" for tag in TAGS]
    columns += [f"metrics.`{metric}`" for metric in metrics]
    columns += [f"params.`{setting}`" for setting in settings[:COLUMNS]]
    state = {
        "searchFilter": f"tags.`{LAUNCH}` = '{name}' and tags.`{PARENT}` LIKE '%'",
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
    } | _charts(metrics, settings)
    created = milliseconds(about["started"])
    view = json.dumps({"name": name, "createdAt": created, "state": json.dumps(state)})
    if client.get_experiment(experiment_id).tags.get(VIEW + name) != view:
        client.set_experiment_tag(experiment_id, VIEW + name, view)


def address_of(experiment_id: str, launch_id: str, charts: bool = False) -> str:
    """The part of an address, after the server's, that opens a saved view."""
    mode = "CHART" if charts else "TABLE"
    return (
        f"#/experiments/{experiment_id}/runs?viewStateShareKey={launch_id}"
        f"&compareRunsMode={mode}&{CLASSIC}"
    )


def _charts(metrics: Sequence[str], settings: Sequence[str]) -> dict[str, Any]:
    """Cards: settings against the first metric, then a bar chart for each metric."""
    cards: list[dict[str, Any]] = []
    if settings:
        axes = {"selectedParams": list(settings[:AXES]), "selectedMetrics": [metrics[0]]}
        cards.append({"type": "PARALLEL", "showAllRuns": True, "metricSectionId": "axes", **axes})
    bars = {"type": "BAR", "metricSectionId": "bars"}
    cards += [bars | {"metricKey": name} for name in metrics]
    common = {"runsCountToCompare": 100, "deleted": False, "isGenerated": False}
    shown = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    sections = [{"uuid": "axes", "name": "Settings", "columns": 1}] if settings else []
    sections += [
        {"uuid": "bars", "name": "Results"},
        {"uuid": "model", "name": "Model metrics"},
        {"uuid": "system", "name": "System metrics"},
    ]
    return {
        "compareRunCharts": [common | c | {"uuid": f"relief-{i}"} for i, c in enumerate(cards)],
        "compareRunSections": [shown | section for section in sections],
        "isAccordionReordered": True,
    }
