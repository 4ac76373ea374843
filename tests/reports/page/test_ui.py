"""MLflow's own pages in a real browser, with our runs in them."""

import os
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pytest

from harness import tracking
from harness.store.sweeps import SweepFolder
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
    """A store that `relief ui` serves: port, ids of a launch's experiment, of a sweep's, of the
    launch, of its run and of those of its cells."""
    store, launch = build(**SMALL, categories=["cookie"])
    page = write_report(store, launch, tmp_path / "report")
    experiment = tracking.sync(store, launch, None, page.parent).experiment_id
    made_sweep(store, launch)
    sweep = tracking.sync_sweep(store, "found-1").experiment_id
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
        yield port, experiment, sweep, launch["id"], parent.info.run_id, children
    finally:
        server.terminate()
        server.wait(30)


def made_sweep(store, launch):
    """24 trials over three loss weights, of invented scores."""
    rng, weights = np.random.default_rng(0), ("w_focal", "w_ssim", "w_l2")
    names = [f"das3d.loss.{weight}" for weight in weights]
    space = {name: {"kind": "uniform", "low": 0.1, "high": 20.0} for name in names}
    folder, trials = SweepFolder(store, "found-1"), []
    for i in range(24):
        values = {} if i == 0 else dict(zip(names, rng.uniform(0.1, 20, 3).round(3).tolist()))
        drawn = list(values.values()) or [1.0, 1.0, 1.0]
        distance = sum(abs(v - best) for v, best in zip(drawn, (15, 4, 9)))
        score = 0.95 - 0.015 * distance + 0.01 * rng.random()
        cell = {"key": launch["cells"][0]["key"], "title": "", "scores": {"i_auroc": score}}
        trials.append(
            {
                "id": "default" if i == 0 else f"t{i:02d}",
                "values": values,
                "settings": " ".join(f"{k}={v:.4g}" for k, v in values.items()),
                "status": "done",
                "reason": "",
                "started": 1.7e9 + 100 * i,
                "ended": 1.7e9 + 100 * i + 90,
                "cells": [cell],
                "of": 1,
                "means": {"i_auroc": score},
            }
        )
        folder.write_trial(trials[-1])
    objective = {"metrics": ["i_auroc"], "on": "validation"}
    best = max(trials, key=lambda trial: trial["means"]["i_auroc"])["id"]
    record = {"id": "found-1", "name": "found", "started": 1.7e9, "ended": 1.7e9 + 2500}
    sweep = {"space": space, "objective": objective, "modes": {"i_auroc": "max"}}
    folder.write(record | {"sweep": sweep, "best": best, "entry": "das3d"})


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
    port, experiment, sweep, launch, parent, children = served
    pages = {
        "runs": (
            tracking.address(experiment, launch, port),
            ["das3d rgb synthetic cookie 0", "aupro_0.3", "2 done"],
        ),
        "sweep": (tracking.address(sweep, "found-1", port), ["t03", "das3d.loss.w_focal"]),
        "charts": (
            tracking.address(sweep, "found-1", port, charts=True),
            ["parcoords", "das3d.loss.w_focal", "das3d.loss.w_ssim", "mean/i_auroc"],
        ),
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
