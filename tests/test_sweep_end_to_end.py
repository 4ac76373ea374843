"""A sweep as a user runs it: undisturbed, killed half way and continued, repeated."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from harness.store import DONE, Store
from tests.test_end_to_end import TINY, finish, relief

SWEEP = [str(Path(__file__).parent / "harness" / "sweep.yaml"), "--workers", "2"]


def folder(store):
    return next(Path(store).glob("sweeps/*"))


def trials(store):
    found = [json.loads(p.read_text()) for p in folder(store).glob("trials/*.json")]
    return sorted(found, key=lambda t: (t["id"] != "default", t["started"]))


def outcome(store):
    """What must not depend on interruptions: points, scores and states."""
    return sorted(
        json.dumps([t["values"], t["means"], t["status"], [c["key"] for c in t["cells"]]])
        for t in trials(store)
    )


def killed(sweep, store, done):
    """Kill its driver as soon as so many of its trials are done."""
    until = time.monotonic() + 300
    while _done(store) < done and time.monotonic() < until:
        assert sweep.poll() is None, sweep.stdout.read()
        time.sleep(0.05)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.communicate(timeout=60)


def _done(store):
    records = [json.loads(p.read_text()) for p in store.glob("sweeps/*/trials/*.json")]
    return sum(record["status"] == DONE for record in records)


def continued(store, given):
    """The same command, which goes on from Tune's state: nothing of it is set aside, and no trial
    that had ended is begun again.
    """
    before = {trial["id"]: trial["started"] for trial in trials(store) if trial["status"] == DONE}
    assert len(before) > 1  # that of the unchanged settings, and one of Tune's
    told = finish(relief("sweep", *given, "--store", store))
    assert "set aside" not in told and not (store / "damaged").exists()
    after = {trial["id"]: trial["started"] for trial in trials(store)}
    assert before.items() <= after.items()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = tmp_path_factory.mktemp("sweep")
    output = finish(relief("sweep", *SWEEP, "--store", store))
    assert "Test data, looked at only now" in output and "best.yaml" in output
    return store


def test_every_trial_has_its_cells_and_the_best_is_named(undisturbed):
    found = trials(undisturbed)
    assert [t["status"] for t in found] == [DONE] * 5 and found[0]["values"] == {}
    record = json.loads((folder(undisturbed) / "sweep.json").read_text())
    best = max(found, key=lambda t: t["means"]["i_auroc"])
    chosen = next(t for t in found if t["id"] == record["best"])
    assert chosen["means"] == best["means"]
    assert {p.name for p in folder(undisturbed).iterdir()} >= {
        "sweep.html",
        "trials.csv",
        "best.yaml",
    }
    assert all(c["scores"]["i_auroc"] is not None for t in found for c in t["cells"])


def test_the_objective_is_of_validation_samples(undisturbed):
    store = Store(undisturbed)
    for trial in trials(undisturbed):
        for cell in trial["cells"]:
            assert cell["scores"]["i_auroc"] == store.result(cell["key"]).validation["i_auroc"]


def test_a_repeated_sweep_computes_nothing(undisturbed):
    before = {p: p.stat().st_mtime_ns for p in Path(undisturbed).glob("jobs/*/result.json")}
    start = time.monotonic()
    finish(relief("sweep", *SWEEP, "--store", undisturbed))
    assert time.monotonic() - start < 60  # 10 s on an idle machine; the suite's is not
    assert {p: p.stat().st_mtime_ns for p in Path(undisturbed).glob("jobs/*/result.json")} == before


def test_a_killed_sweep_continues_and_computes_each_trial_once(undisturbed, tmp_path):
    killed(relief("sweep", *SWEEP, "--store", tmp_path, start_new_session=True), tmp_path, 2)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("jobs/*/result.json")}
    continued(tmp_path, SWEEP)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.glob("jobs/*/result.json")}
    assert before.items() <= after.items()
    assert outcome(tmp_path) == outcome(undisturbed)
    assert len(after) == len(list(Path(undisturbed).glob("jobs/*/result.json")))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_search_by_what_it_learned_goes_on_with_what_it_learned(tmp_path):
    """Without its state, tpe would draw the same first points and other ones after."""
    given = [*SWEEP, "search.kind=tpe", "search.concurrency=1", "search.trials=6"]
    finish(relief("sweep", *given, "--store", tmp_path / "whole", "--tracking", "none"))
    cut = tmp_path / "cut"
    killed(relief("sweep", *given, "--store", cut, start_new_session=True), cut, 4)
    continued(cut, given)
    assert outcome(cut) == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_a_point_that_cannot_be_spares_the_others_and_is_tried_again(tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text(f"""
        base: {TINY}
        config: {{methods: [das3d/untrained]}}
        space: {{das3d.score_window: {{kind: int, low: 1, high: 9}}}}
        search: {{kind: random, trials: 3}}
    """)
    for _ in range(2):
        output = finish(relief("sweep", path, "--store", tmp_path / "store", "--tracking", "none"))
        assert "it must be odd" in output and "Traceback" not in output
        states = {t["settings"]: t["status"] for t in trials(tmp_path / "store")}
        assert len(trials(tmp_path / "store")) == 4
        for settings, state in states.items():
            even = settings[-1].isdigit() and int(settings[-1]) % 2 == 0
            assert state == ("failed" if even else DONE)


def test_a_sweep_shows_up_in_mlflow(undisturbed):
    from harness.tracking.client import connect
    from harness.tracking.content import KEY, PARENT

    client, _ = connect(Store(undisturbed), None)
    runs = client.search_runs([client.get_experiment_by_name("sweep").experiment_id])
    children = [r for r in runs if PARENT in r.data.tags and "mean/i_auroc" in r.data.metrics]
    assert {r.data.tags[KEY] for r in children} == {t["id"] for t in trials(undisturbed)}
    swept = next(r for r in children if r.data.tags[KEY] != "default")
    assert "das3d.score_window" in swept.data.params
