"""MLflow's own pages over the store's database."""

from __future__ import annotations

import sys

from harness.store import Store
from harness.tracking.client import LAUNCH, connect, default_uri

PAGE = "leaderboard/leaderboard.html"  # artifact of a launch's run
PORT = 5000


def addresses(store: Store, port: int) -> dict[str, list[str]]:
    """Name of a launch -> where the UI of the store's own database shows it.

    A launch's leaderboard page, then the runs of its experiment; those of an experiment alone
    where no report is logged yet.
    """
    client, _ = connect(store, None)
    found: dict[str, list[str]] = {}
    for experiment in client.search_experiments():
        runs = address(experiment.experiment_id, port)
        parents = client.search_runs(
            [experiment.experiment_id], "tags.cells LIKE '%'", max_results=1000
        )
        for run in parents:
            page = (
                f"#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}/artifacts/{PAGE}"
            )
            found[run.data.tags[LAUNCH]] = [f"http://127.0.0.1:{port}/{page}", runs]
        if not parents and experiment.name != "Default":
            found[experiment.name] = [runs]
    return found


def server_command(store: Store, port: int) -> list[str]:
    """The command that serves the store's own tracking database on loopback."""
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        default_uri(store),
        "--default-artifact-root",
        (store.path / "mlflow-artifacts").as_uri(),
    ]


def address(experiment_id: str, port: int = PORT) -> str:
    """Where the runs of an experiment are in the UI."""
    return (
        f"http://127.0.0.1:{port}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    )
