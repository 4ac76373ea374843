import shutil

import cv2
import numpy as np
import pytest

from harness.planning.config import Config, ConfigError, load
from harness.planning.costs import estimate
from harness.planning.expand import build
from harness.store import Store
from methods.names import BASELINES
from tests.harness.conftest import TINY, planned, run


def test_a_cell_waits_for_its_ground_truth_and_its_key_does_not_hold_it():
    plan = planned()
    for cell in plan.cells:
        job = plan.jobs[cell["key"]]
        assert plan.jobs[job.place.truth].spec["kind"] == "truth"
        assert job.place.truth in job.needs and job.place.truth not in job.about.needs.keys
        assert list(plan.jobs).index(job.place.truth) < list(plan.jobs).index(job.key)
        assert job.spec["metrics"] == 1  # whatever the versions of metrics are


def keys(plan, kind):
    return [key for key, job in plan.jobs.items() if job.spec["kind"] == kind]


def test_a_plan_shares_one_dataset_and_one_view_a_category():
    plan = planned(
        "seeds=[0,1]", "settings=[rgb,3d,rgb+3d]", "datasets.synthetic.categories=[cookie,foam]"
    )
    assert len(keys(plan, "dataset")) == len(keys(plan, "view")) == 2
    assert len(keys(plan, "cell")) == len(plan.cells) == 2 * 2 * 3 * 2
    order = list(plan.jobs)
    for key, job in plan.jobs.items():
        assert all(order.index(need) < order.index(key) for need in job.needs)


def test_what_does_not_determine_the_result_does_not_enter_the_keys():
    same = planned(
        "resources.das3d.cpus=2",
        "protocol.batch=3",
        "schedule.retries=0",
        "demo=true",
        "name=other",
    )
    assert list(same.jobs) == list(planned().jobs)


@pytest.mark.parametrize(
    "change",
    [
        "das3d.train.lr=2e-3",
        "das3d.prep.size=96",
        "seeds=[1]",
        "datasets.synthetic.synthetic.seed=1",
    ],
)
def test_what_determines_the_result_enters_the_keys(change):
    assert not set(keys(planned(change), "cell")) & set(keys(planned(), "cell"))


def test_a_method_setting_leaves_the_view_shared():
    assert keys(planned("das3d.train.lr=2e-3"), "view") == keys(planned(), "view")
    assert keys(planned("das3d.prep.size=96"), "view") != keys(planned(), "view")
    assert keys(planned("das3d.prep.size=96"), "dataset") == keys(planned(), "dataset")


def test_a_variant_is_the_same_work_as_the_settings_it_stands_for():
    variant = planned("methods=[das3d/untrained]")
    spelled = planned("methods=[das3d]", "das3d.train.steps=0")
    assert keys(variant, "cell") == keys(spelled, "cell")


def test_the_same_command_is_the_same_launch(tmp_path):
    store = Store(tmp_path)
    first, again = planned().record(store), planned().record(store)
    assert first["started"] == again["started"]
    assert [launch["id"] for launch in store.launches()] == [first["id"]]
    assert planned("seeds=[1]").launch_id != first["id"]


def test_an_unknown_category_or_preset_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="no biscuit; there are cookie"):
        planned("datasets.synthetic.categories=[biscuit]")
    with pytest.raises(ConfigError, match="no 'tny'; known: tiny"):
        planned("datasets.synthetic.synthetic.preset=tny")
    with pytest.raises(ConfigError, match="datasets.synthetic.synthetic: size"):
        planned("datasets.synthetic.synthetic.size=1")


def test_a_texture_folder_enters_the_key_by_its_content(tmp_path):
    (tmp_path / "a.png").write_bytes(b"1")
    change = ["das3d.texture.source=folder", f"das3d.texture.folder={tmp_path}"]
    before = keys(planned(*change), "cell")
    (tmp_path / "b.png").write_bytes(b"2")
    assert keys(planned(*change), "cell") != before


def test_a_texture_folder_keeps_its_key_elsewhere_and_its_jobs_find_it(tmp_path):
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a/1.png"), np.full((80, 80, 3), 200, np.uint8))
    there = shutil.copytree(tmp_path / "a", tmp_path / "b")  # keeps the times of change
    plans = [
        planned("das3d.texture.source=folder", f"das3d.texture.folder={tmp_path / name}")
        for name in ("a", "b")
    ]
    assert list(plans[0].jobs) == list(plans[1].jobs)
    shutil.rmtree(tmp_path / "a")
    store = Store(tmp_path / "store")
    assert not run(plans[1], store).failures
    assert there.exists() and store.done(keys(plans[1], "cell")[0])


def test_a_missing_texture_folder_is_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="das3d.texture.folder is not set"):
        planned("das3d.texture.source=dtd")
    planned("das3d.texture.source=dtd", "settings=[3d]")  # depth has no colours
    with pytest.raises(ConfigError, match="nowhere is not a folder"):
        planned("das3d.texture.source=dtd", "das3d.texture.folder=nowhere")


def test_an_empty_texture_folder_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "readme.txt").write_text("no image")
    for source in ("dtd", "auto", "folder", "imagenet", "other_categories"):
        given = (f"das3d.texture.source={source}", f"das3d.texture.folder={tmp_path}")
        with pytest.raises(ConfigError, match=f"{tmp_path} holds no image"):
            planned(*given)


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(ConfigError) as refused:
        planned(
            "methods=[das3d,m3dm,shape_guided]", "settings=[rgb,3d]", "das3d.texture.source=dtd"
        )
    text = str(refused.value)
    for wanted in (
        "das3d.texture.folder",
        "m3dm.weights.rgb",
        "m3dm.weights.point",
        "shape_guided.weights.rgb",
        "leave methods out",
    ):
        assert wanted in text


def test_a_real_dataset_is_identified_by_its_files(tiny_store):
    made = planned()
    root = tiny_store.folder(keys(made, "dataset")[0])
    plan = planned(data=root)
    assert keys(plan, "dataset") == [] and len(keys(plan, "view")) == 1
    with pytest.raises(ConfigError, match="no peach in .*; there are cookie"):
        name = next(iter(plan.config.datasets))
        planned(f"datasets.{name}.categories=[peach]", data=root)


def test_expected_time_comes_from_finished_jobs_alike(tiny_store, tmp_path):
    more = planned("seeds=[0,1]")
    seconds = estimate(more, tiny_store)
    assert len(seconds) == 2 and all(s > 0 for s in seconds.values())
    assert set(estimate(more, Store(tmp_path)).values()) == {None}


def test_a_finished_launch_has_nothing_pending(tiny_store):
    assert planned().pending(tiny_store) == []
    assert not run(planned(), tiny_store).counts


def test_a_plan_leaves_out_the_settings_that_a_method_does_not_have(tmp_path):
    listed = f"methods: [das3d, {', '.join(BASELINES)}]"
    own = TINY.read_text().replace("methods: [das3d, das3d/untrained]", listed)
    (tmp_path / "own.yaml").write_text(own)
    plan = build(load(str(tmp_path / "own.yaml"), ["settings=[rgb,3d]"]))
    there = {
        ("/".join(filter(None, (c["method"], c["variant"]))), c["setting"]) for c in plan.cells
    }
    assert there == {
        ("das3d", "rgb"),
        ("das3d", "3d"),
        ("baseline/plane", "3d"),
        ("baseline/colour", "rgb"),
    }
    assert plan.left_out == {
        "baseline": ["rgb", "3d"],
        "baseline/plane": ["rgb"],
        "baseline/colour": ["3d"],
    }
    assert not planned("settings=[rgb,3d]").left_out


def test_the_baselines_are_in_unless_methods_are_named():
    for name in ("demo", "benchmark"):
        assert set(BASELINES) <= set(load(name, data="/data/parts").methods)
    assert set(BASELINES) <= set(Config().methods)
    assert load("demo", ["methods=[das3d]"]).methods == ["das3d"]


def test_a_baseline_without_any_of_the_settings_is_refused_if_it_is_asked_for_by_name():
    said = "baseline/colour has the settings rgb, rgb\\+3d, and only 3d is asked for"
    with pytest.raises(ConfigError, match=said):
        planned("methods=[das3d,baseline/colour]", "settings=[3d]")


def test_a_launch_says_which_methods_have_other_settings_than_published(tmp_path):
    path = tmp_path / "plain.yaml"
    path.write_text(
        "methods: [baseline, baseline/plane]\nsettings: [3d]\n"
        "datasets: {made: {kind: synthetic, categories: [cookie]}}\n"
    )

    def altered(*overrides):
        return build(load(str(path), overrides)).launch()["altered"]

    assert altered() == [] == altered("protocol.batch=1")
    assert altered("baseline.window=5") == ["baseline"]
    assert altered("datasets.made.background=none") == ["baseline"]
