"""One number inside a list as a search space: TPE over it under Ray, killed and continued.

Every form that results are read in has its value: trials, CSV, the best point's YAML, MLflow.
"""

import csv
import json
import os
import signal
import time

import pytest
import yaml

from harness.store import DONE, Store
from harness.tracking import client, content
from tests.methods.tiny import TINY
from tests.test_end_to_end import TINY as CONFIG
from tests.test_end_to_end import relief
from tests.test_sweep_early import finish
from tests.test_sweep_end_to_end import folder, trials

pytest.importorskip("mlflow")

SWEPT = {  # its list's place in the settings, the entry, the range
    "das3d.p_z[1]": (("p_z",), 1, (0.25, 0.9)),
    "dbrn.loss.weights[2]": (("loss", "weights"), 2, (1.0, 100.0)),
}


def found_in(settings, place):
    for name in place:
        settings = settings[name]
    return settings


def of_mlflow(store, name):
    """What MLflow has as the parameter of that name, by trial."""
    known, _ = client.connect(Store(store), None)
    number = known.get_experiment_by_name("scalar").experiment_id
    query = f"tags.`{content.LAUNCH}` = '{folder(store).name}'"
    runs = [run for run in known.search_runs([number], query) if content.PARENT in run.data.tags]
    return {run.data.tags[content.KEY]: float(run.data.params[name]) for run in runs}


def killed_after(count, command, store):
    process = relief(*command, start_new_session=True)
    until = time.monotonic() + 400
    while len(list(store.glob("sweeps/*/trials/*.json"))) < count and time.monotonic() < until:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SWEPT)
def test_tpe_searches_one_number_of_a_list_and_goes_on_after_a_kill(name, tmp_path):
    place, entry, (low, high) = SWEPT[name]
    method = name.split(".")[0]
    own = {**TINY[method], "prep": {"size": 64}}
    config = {"methods": [method], "settings": ["rgb+3d"], method: own}
    sweep, store = tmp_path / "scalar.yaml", tmp_path / "store"
    sweep.write_text(f"""
        base: {CONFIG}
        config: {json.dumps(config)}
        space: {{"{name}": {{kind: uniform, low: {low}, high: {high}}}}}
        search: {{kind: tpe, trials: 6}}
    """)
    command = ["sweep", sweep, "--workers", "2", "--store", store]
    killed_after(2, [*command, "--tracking", "none"], store)
    before = {p: p.stat().st_mtime_ns for p in store.glob("jobs/*/result.json")}
    assert name in finish(relief(*command))
    after = {p: p.stat().st_mtime_ns for p in store.glob("jobs/*/result.json")}
    assert before.items() <= after.items()

    found = trials(store)
    assert [t["status"] for t in found] == [DONE] * 7
    results, (default, *points) = Store(store), found
    usual = found_in(results.result(default["cells"][0]["key"]).spec.settings, place)
    values = [t["values"][name] for t in points]
    assert len(set(values)) == 6 and all(low <= value <= high for value in values)
    for trial, value in zip(points, values):
        for cell in trial["cells"]:
            own = found_in(results.result(cell["key"]).spec.settings, place)
            assert own == [*usual[:entry], value, *usual[entry + 1 :]]
    known = {t["id"]: value for t, value in zip(points, values)} | {default["id"]: usual[entry]}
    with (folder(store) / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(float(row[name] or usual[entry]) for row in rows) == sorted(known.values())
    assert of_mlflow(store, name.replace("[", ".").rstrip("]")) == pytest.approx(known)
    record = json.loads((folder(store) / "sweep.json").read_text())
    if record["best"] != default["id"]:
        best = yaml.safe_load((folder(store) / "best.yaml").read_text())
        (value,) = [t["values"][name] for t in points if t["id"] == record["best"]]
        assert best["variants"][method]["swept"] == {name.removeprefix(f"{method}."): value}
