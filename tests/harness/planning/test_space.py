"""What a sweep asks for, and every way in which it can be wrong."""

from pathlib import Path

import pytest

from harness.planning import config, space, yaml12
from harness.planning.based import over_base
from harness.planning.config import ConfigError
from harness.planning.space import Domain, describe, load, write_best
from harness.store import DONE, FAILED, Store, write_json
from harness.store.sweeps import DEFAULT, SweepFolder

FILE = str(Path(__file__).parents[1] / "sweep.yaml")
TINY = str(Path(__file__).parents[1] / "tiny.yaml")


def swept(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: {TINY}\nconfig: {{methods: [das3d]}}\n{text}")
    return load(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {}", "space is empty"),
        ("space: {das3d.p_q: {kind: uniform, low: 0, high: 1}}", "p_q.*unknown key"),
        ("space: {das3d.train.steps: {kind: uniform, low: 0.5, high: 1.5}}", "das3d.train.steps"),
        ("space: {das3d.p_d: {kind: choice, values: [high]}}", "das3d.p_d.*Float"),
        ("space: {das3d.p_d: {kind: choice, values: []}}", "there are none"),
        ("space: {das3d.p_d: {kind: choice, values: [0.1, 0.1]}}", "stands twice"),
        ("space: {das3d.p_d: {kind: uniform, low: 0.4, high: 0.4}}", "low < high"),
        ("space: {das3d.p_d: {kind: loguniform, low: 0, high: 1}}", "above 0"),
        ("space: {das3d.score_window: {kind: int, low: 1.5, high: 3}}", "whole"),
        ("space: {das3d.p_d: {kind: normal}}", "kind"),
        ("space: {dbrn.sim.e1: {kind: uniform, low: 0.7, high: 0.9}}", "no setting of das3d"),
        (
            "space: {das3d.p_d: {kind: uniform, low: 0, high: 1, when: {das3d.x: 1}}}",
            "not in the space",
        ),
        (
            "space: {das3d.p_d: {kind: uniform, low: 0, high: 1}}\nsearch: {trials: 0}",
            "trials is 0",
        ),
        ("space: {das3d.p_d: {kind: uniform, low: 0, high: 1}}\nsearch: {hours: 0}", "hours is 0"),
        (
            "space: {das3d.p_d: {kind: uniform, low: 0, high: 1}}\nsearch: {kind: grid}",
            "needs choice",
        ),
        ("space: {das3d.p_d: {kind: grid, values: [0.1]}}\nsearch: {kind: tpe}", "tpe draws"),
        (
            "space: {das3d.p_d: {kind: choice, values: [0.1]}}\nobjective: {metrics: [auroc]}",
            "no 'auroc'; known: i_auroc",
        ),
        (
            "space: {das3d.p_d: {kind: choice, values: [0.1]}}\nobjective: {metrics: []}",
            "one or more",
        ),
        (
            "space: {das3d.p_d: {kind: choice, values: [0.1]}}\n"
            "objective: {metrics: [i_auroc, fit_s]}\nearly: {kind: asha}",
            "compares one metric",
        ),
        (
            "space: {das3d.p_d: {kind: choice, values: [0.1]}}\nearly: {kind: hyperband}",
            "early.kind",
        ),
        ("spaces: {}", "spaces"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        swept(tmp_path, text)


def test_an_objective_that_nothing_measures_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    text = f"base: {TINY}\nspace: {{das3d.p_d: {{kind: choice, values: [0.1]}}}}\n"
    path.write_text(
        text + "config: {methods: [das3d], datasets: {synthetic: {synthetic: {validation: 0}}}}"
    )
    with pytest.raises(ConfigError, match="cookie has no validation samples"):
        load(str(path))
    assert load(str(path), ["objective.on=test"]).objective.on == "test"
    with pytest.raises(ConfigError, match="nothing is timed"):
        load(str(path), ["objective.metrics=[latency_p50_s]", "protocol.latency_samples=0"])
    with pytest.raises(ConfigError, match="one method"):
        load(str(path), ["methods=[das3d,das3d/untrained]", "objective.on=test"])


def test_a_setting_waits_for_those_it_depends_on():
    sweep = load(FILE)
    drawn = {"das3d.score_window": 2, "das3d.skew.enabled": 1, "das3d.skew.rho": 0.3}
    assert sweep.point(drawn) == {"das3d.score_window": 9, "das3d.skew.enabled": False}
    drawn["das3d.skew.enabled"] = 0
    assert sweep.point(drawn)["das3d.skew.rho"] == 0.3


def test_a_point_overrides_the_swept_variant_and_shares_what_it_does_not_touch():
    sweep = load(FILE)
    default, point = sweep.plan({}), sweep.plan({"das3d.score_window": 9})
    assert {cell["variant"] for cell in point.cells} == {"untrained+swept"}
    for plan in (default, point):
        assert all(plan.jobs[c["key"]].spec["settings"]["train"]["steps"] == 0 for c in plan.cells)
    assert {c["key"] for c in default.cells}.isdisjoint(c["key"] for c in point.cells)
    shared = set(default.jobs) & set(point.jobs)
    assert {default.jobs[key].spec["kind"] for key in shared} == {"dataset", "view", "truth"}
    assert sweep.plan({"das3d.score_window": 9}, both=True).cells[0]["variant"] == "untrained"


def test_the_best_point_is_a_configuration_that_runs_to_the_same_cells(tmp_path):
    sweep = load(FILE)
    values = {"das3d.score_window": 5, "das3d.skew.enabled": False}
    write_best(sweep, values, tmp_path / "best.yaml")
    from harness.planning.expand import build

    found = build(config.load(str(tmp_path / "best.yaml")))
    assert [c["key"] for c in found.cells] == [
        c["key"] for c in sweep.plan(values, both=True).cells
    ]
    assert found.config.selected_on == "validation"
    text = (tmp_path / "best.yaml").read_text()
    assert "chosen on validation data: das3d.score_window=5" in text
    said = yaml12.load(text)
    assert said.keys() == {"base", "methods", "selected_on", "variants", "datasets"}
    assert said["variants"]["das3d"] == {
        "swept": {"score_window": 5, "skew.enabled": False},
    }
    assert said["datasets"]["synthetic"] == {"categories": ["cookie", "tread"]} | {
        "synthetic": {"validation": 2}
    }


def test_datasets_that_are_not_the_bases_are_said_and_those_of_the_base_left_out(tmp_path):
    given = config.read(TINY) | {"datasets": {"mine": {"root": "/data"}}}
    config.write_yaml(over_base(given, TINY), tmp_path / "best.yaml", "mine")
    assert config.read(str(tmp_path / "best.yaml"))["datasets"] == {"mine": {"root": "/data"}}


def test_a_configuration_may_build_on_another_and_not_on_itself(tmp_path):
    mine, own = tmp_path / "mine.yaml", tmp_path / "own.yaml"
    mine.write_text("base: demo\ndas3d: {train: {steps: 7}}\nmethods: [das3d]\n")
    found = config.load(str(mine))
    assert found.name == "mine" and found.demo
    assert found.settings_of("das3d", "").train.steps == 7
    own.write_text(f"base: {own}\n")
    with pytest.raises(ConfigError, match="builds on own.yaml itself"):
        config.load(str(own))


def test_every_shipped_sweep_is_sound():
    for name in config.shipped("sweeps"):
        assert load(name).space


def test_one_setting_of_a_space_is_searched_alone():
    one = load("dbrn_loss", ["only=['dbrn.loss.weights[2]']", "search.trials=2"])
    assert list(one.space) == ["dbrn.loss.weights[2]"] and one.search.kind == "tpe"
    waits = load("m3dm_banks", ["only=[m3dm.dlf.nu]"])
    assert list(waits.space) == ["m3dm.decision", "m3dm.dlf.nu"]
    with pytest.raises(ConfigError, match="no dbrn.nothing; it has dbrn.loss"):
        load("dbrn_loss", ["only=[dbrn.nothing]"])


def test_overrides_reach_the_sweep_or_its_configuration():
    sweep = load(FILE, ["seeds=[3]", "search.trials=2"])
    assert sweep.given["seeds"] == [3] and sweep.search.trials == 2
    with pytest.raises(ConfigError, match="did you mean p_d"):
        load(FILE, ["das3d.p_dd=1"])


def test_domains_show_their_ends_and_points_their_values():
    assert Domain("int", low=1, high=4).examples() == [1, 4]
    assert describe({"a": 0.123456, "b": [1, 2]}) == "a=0.1235 b=[1, 2]"
    assert describe({}) == "unchanged settings"
    assert set(space.COSTS) == {"latency_p50_s", "fit_s", "host_peak_bytes"}


def test_failed_trials_get_another_chance_that_of_the_unchanged_settings_too(tmp_path):
    folder = SweepFolder(Store(tmp_path), "mine")
    for trial_id, status in ((DEFAULT, FAILED), ("a", DONE), ("b", FAILED)):
        write_json(folder.trial(trial_id), {"id": trial_id, "status": status, "started": 1.0})
    folder.forget_failed()
    assert [trial["id"] for trial in folder.trials()] == ["a"]
