"""MLflow's own pages in a real browser, with our runs in them."""

import os
import socket
import subprocess
import time
import urllib.request

import pytest

from harness import tracking
from harness.tracking import client as shared
from harness.tracking import content
from reports.page.render import write_report
from tests.reports.page.test_browser import BROWSER, browse

pytest.importorskip("mlflow")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed"),
]
SMALL = {"methods": [("das3d", ""), ("m3dm", "")], "settings": ["rgb"], "seeds": [0]}


@pytest.fixture
def served(build, tmp_path):
    """(port, experiment's id, parent's id, children's ids) of a store that `relief ui` serves."""
    store, launch = build(**SMALL, categories=["cookie"])
    page = write_report(store, launch, tmp_path / "report")
    experiment = tracking.sync(store, launch, None, page.parent).experiment_id
    client, _ = shared.connect(store, None)
    runs = client.search_runs([experiment])
    parent = next(run for run in runs if content.PARENT not in run.data.tags)
    children = [run.info.run_id for run in runs if content.PARENT in run.data.tags]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, **tracking.ENVIRONMENT}
    with open(tmp_path / "server.log", "w") as log:
        server = subprocess.Popen(
            tracking.server_command(store, port), env=environment, stdout=log, stderr=log
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, tmp_path / "server.log")
        yield port, experiment, parent.info.run_id, children
    finally:
        server.terminate()
        server.wait(30)


def _wait(address, server, log):
    end = time.monotonic() + 240
    while time.monotonic() < end and server.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5).read()
        except OSError:
            time.sleep(1)
    raise AssertionError(log.read_text()[-2000:])


def shown(address, tmp_path, shot=""):
    """The page's elements once it is drawn, and the errors on its console."""
    drawn = f"--screenshot={shot}" if shot else "--dump-dom"
    options = ("--window-size=1600,1000", "--timeout=60000", drawn)
    page, console = browse(address, tmp_path, *options, budget_ms=60000, timeout=240)
    errors = [
        line for line in console if "CONSOLE" in line and ("Error" in line or "ERROR" in line)
    ]
    return page, errors


def test_runs_metrics_and_comparison_are_drawn_without_errors(served, tmp_path):
    port, experiment, parent, children = served
    pages = {
        "runs": (tracking.address(experiment, port), ["fake-00000000"]),
        "parent": (
            f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs/{parent}/model-metrics",
            ["synthetic/rgb/das3d"],
        ),
        "child": (
            f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs/{children[0]}",
            ["i_auroc", "relief.key"],
        ),
        "compare": (
            f'http://127.0.0.1:{port}/#/compare-runs?runs=["{children[0]}","{children[1]}"]'
            f'&experiments=["{experiment}"]'.replace('"', "%22"),
            ["i_auroc", "m3dm"],
        ),
    }
    shots = os.environ.get("RELIEF_SHOTS")  # a folder: keep pictures to look at
    for name, (address, words) in pages.items():
        text, errors = shown(address, tmp_path)
        assert not errors, (name, errors)
        missing = [word for word in words if word not in text]
        assert not missing, (name, missing, len(text))
        if shots:
            shown(address, tmp_path, f"{shots}/{name}.png")
