"""MLflow's own pages over the store's database."""

from __future__ import annotations

import socket
import sys

from harness.store import Store
from harness.tracking.client import opened
from harness.tracking.content import LAUNCH
from harness.tracking.database import TrackingError, artifacts_of, default_uri
from harness.tracking.report import PAGE
from harness.tracking.views import CLASSIC, address_of

PORT = 5000
PARENTS = {"tags.cells LIKE '%'": PAGE, "tags.kind = 'sweep'": "sweep/sweep.html"}


def addresses(store: Store, port: int) -> dict[str, list[str]]:
    """Name of a launch or sweep -> where the UI of the store's own database shows it.

    The leaderboard's page or the sweep's, then its runs, as a table and as charts.
    """
    found: dict[str, list[str]] = {}
    with opened(store) as (client, _):
        for experiment in client.search_experiments():
            number = experiment.experiment_id
            for chosen, page in PARENTS.items():
                for run in client.search_runs([number], chosen, max_results=1000):
                    name = run.data.tags.get(LAUNCH, run.info.run_name)
                    place = (
                        f"#/experiments/{number}/runs/{run.info.run_id}/artifacts/{page}?{CLASSIC}"
                    )
                    found[name] = [
                        f"http://127.0.0.1:{port}/{place}",
                        *(address(number, name, port, charts) for charts in (False, True)),
                    ]
    return found


def check_port(port: int) -> None:
    """Raise TrackingError if no server can listen there."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError as error:
            raise TrackingError(
                f"port {port} of 127.0.0.1 is not free ({error.strerror}): another `relief ui` may "
                "be serving there; choose another with --port"
            ) from error


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
        artifacts_of(store),
    ]


def address(experiment_id: str, launch_id: str, port: int = PORT, charts: bool = False) -> str:
    """Where the runs of a launch or a sweep are in the UI."""
    return f"http://127.0.0.1:{port}/{address_of(experiment_id, launch_id, charts)}"
