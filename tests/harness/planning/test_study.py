"""Published tables as plans, and their values beside ours."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from harness.engine.driver import Driver
from harness.engine.executors import InProcess
from harness.planning import study
from harness.planning.config import ConfigError, find, shipped
from harness.store import DONE, Store
from reports.numbers import data
from reports.numbers.published import known_categories, published_cells
from reports.page import studies
from reports.page.coverage import coverage
from reports.page.studies import ours_only, study_lines, study_table, write_study
from tests.harness.cli.test_cli import relief
from tests.harness.conftest import checkpoint
from tests.reports.fake_store import SIZE, TEST, build_launch

TINY = str(Path(__file__).parents[1] / "tiny.yaml")


def computed():
    found, unmet = {}, {}
    for one in map(study.read, shipped("studies")):
        found.setdefault((one.paper, one.table), set()).update(one.printed_names())
        unmet.setdefault((one.paper, one.table), []).extend(one.unmet)
    return found, unmet


def test_every_published_value_of_the_five_methods_has_a_study():
    values = coverage(*computed())
    assert len(values) > 1600
    assert values.loc[values["reason"] != "", ["paper", "table", "method", "reason"]].empty


def test_a_missing_study_row_or_reason_is_named():
    found, unmet = computed()
    table = ("das3d", "Table 6")
    gone = coverage({k: v for k, v in found.items() if k != table}, unmet)
    assert set(gone.loc[gone["reason"] != "", "table"]) == {"Table 6"}
    assert set(gone.loc[gone["reason"] != "", "reason"]) == {"no study of this table"}
    fewer = found | {table: {name for name in found[table] if name[1] != "skew_only"}}
    missing = coverage(fewer, unmet)
    assert set(missing.loc[missing["reason"] != "", "variant"]) == {"skew_only"}
    told = coverage(fewer, {table: [study.Unmet("not wanted", "skew_only")]})
    assert set(told.loc[told["reason"] != "", "reason"]) == {"not wanted"}


def test_studies_name_only_rows_that_their_table_prints():
    for name in shipped("studies"):
        one = study.read(name)
        cells = ours_only(published_cells(one.paper, one.table))
        printed = set(
            cells[["method_key", "variant", "setting"]].itertuples(index=False, name=None)
        )
        assert one.printed_names() <= printed, name
        assert set(cells["dataset"]) == {one.dataset}, name


def test_a_study_runs_and_sets_published_values_beside_ours(tmp_path):
    overrides = ["datasets.synthetic.categories=[cookie]", "das3d.train.steps=1"]
    plan, store = study.plan("das3d/table6", overrides, base=TINY), Store(tmp_path)
    assert len(plan.cells) == 4
    launch = plan.record(store)
    driver = Driver(plan, store, InProcess(), plan.config.schedule)
    assert set(driver.run().counts) == {DONE}
    page, lines = write_study(store, launch, tmp_path / "out")
    assert len(lines) == 8 and all(line.ours is not None for line in lines)
    first = lines[0]
    assert first.difference == pytest.approx(first.ours - first.published)
    assert "cookie" in first.note and first.verdict == ""  # other data: no verdict
    table = pd.read_csv(tmp_path / "out" / "study.csv")
    assert table["published"].tolist() == [line.published for line in lines]
    assert "Demo" not in page.read_text() or launch["demo"]


@pytest.fixture
def table1(monkeypatch):
    """Lines of DAS3D's Table 1 of results with such changes, on data with counts of the release."""
    categories = known_categories("mvtec3d")
    facts = data.Facts({"test": dict(TEST)}, (SIZE, SIZE), (".png", ".tiff"))
    monkeypatch.setattr(
        data, "published_facts", lambda: {("mvtec3d", c): facts for c in categories}
    )
    named = {"name": "das3d/table1", "paper": "das3d", "table": "Table 1", "dataset": "mvtec3d"}

    def make(path, **changes):
        which = (("das3d", ""),), ("rgb+3d",), categories
        changes = {"marks": [], "data": {"sizes": [[SIZE, SIZE]]}} | changes
        store, launch = build_launch(
            path, *which, troubles={(None,) * 5: changes}, demo=False, arrays=False
        )
        cells = [
            cell | {"dataset": "mvtec3d", "printed": ["das3d", ""]} for cell in launch["cells"]
        ]
        launch |= {"cells": cells, "study": named}
        return launch, study_lines(store, launch)

    return make


@pytest.mark.parametrize(
    "change, note",
    [
        ({"data": {"sizes": [[9, 9]]}}, "not the published data"),
        ({"marks": ["demo"]}, "demo"),
        ({"marks": ["7-shot"]}, "7-shot"),
    ],
)
def test_a_study_judges_neither_look_alikes_nor_demos_nor_other_shots(
    table1, tmp_path, change, note
):
    _, lines = table1(tmp_path, **change)
    ours = [line for line in lines if line.ours is not None]
    assert {(line.verdict, line.note) for line in ours} == {("", note)} and len(ours) == 11


def test_settings_of_the_command_line_are_no_try_at_a_published_table_but_those_of_its_rows(
    table1, tmp_path
):
    launch, _ = table1(tmp_path)
    altered = launch | {"altered": ["das3d"]}
    for sets, verdicts in ((False, {""}), (True, {"within error", "above", "below"})):
        of = altered | {"study": launch["study"] | {"sets": sets}}
        lines = [line for line in study_lines(Store(tmp_path), of) if line.ours is not None]
        assert {line.verdict for line in lines} <= verdicts
        assert {line.note for line in lines} == ({""} if sets else {"altered"})


def test_the_command_line_changes_data_but_not_the_samples_that_a_row_is_about(tmp_path):
    file = tmp_path / "few.yaml"
    file.write_text(
        "paper: m3dm\ntable: Table 6\nrows:\n"
        "  - {methods: [das3d], settings: [rgb], train_samples: 3, data: {synthetic.seed: 9}}\n"
    )
    given = ["datasets.synthetic.train_samples=5", "datasets.synthetic.synthetic.seed=7"]
    plan = study.plan(str(file), given, base=TINY)
    cells = [job.about for job in plan.jobs.values() if job.about.kind == "cell"]
    assert {cell.train_samples for cell in cells} == {3}
    recipes = [job.about.recipe for job in plan.jobs.values() if job.about.kind == "dataset"]
    assert {recipe["seed"] for recipe in recipes} == {7}


def test_a_study_tells_of_altered_methods_in_any_of_its_rows():
    given = ["m3dm.weights.rgb=random-init", "m3dm.weights.point=random-init", "seeds=[0]"]
    given += [
        "m3dm.coreset.share=0.5",
        "m3dm.uff.enabled=false",
        "dbrn.texture.source=procedural",
        "settings=[rgb+3d]",
    ]
    plan = study.plan("dbrn/table1", given, base=TINY)
    assert plan.config.methods == ["dbrn", "dbrn/ms", "m3dm"]
    assert "m3dm" in plan.launch()["altered"]


def test_what_is_counted_is_the_mean_over_categories_as_printed_and_what_is_clocked_the_median():
    """Shape-Guided's 208,230 features are 784 cells of the mean of MVTec 3D-AD's samples."""
    trained = [c.counts["train"]["good"] for c in data.published_facts().values()][:10]
    assert sum(trained) == 2656
    cell = {"dataset": "m", "setting": "rgb+3d", "method": "s", "variant": "", "device": "gpu"}
    frame = pd.DataFrame([cell | {"rgb_features_searched": 784 * n, "fps": n} for n in trained])
    found = {m: studies._measured(frame, cell, "", m).ours for m in ("n_features", "fps")}
    (printed,) = published_cells("shape_guided", "Table 3").query(
        "metric == 'n_features' and variant == 'wo_shape_guided'"
    )["value"]
    assert found["n_features"] == pytest.approx(printed, abs=0.5)
    assert found["fps"] == pd.Series(trained).median()


def test_on_the_papers_data_values_get_a_verdict_and_an_interval(table1, tmp_path):
    categories = known_categories("mvtec3d")
    launch, lines = table1(tmp_path)
    ours = {line.category: line for line in lines if line.ours is not None}
    assert set(ours) == {*categories, "mean"}
    assert all(line.verdict in ("within error", "above", "below") for line in ours.values())
    mean = ours["mean"]
    assert mean.low < mean.ours < mean.high and mean.std is not None and mean.note == ""
    assert {line.note for line in lines if line.ours is None} == {"no row of the study computes it"}
    assert {line.compares for line in ours.values()} == {"inferred"}
    assert "DAS3D prints no optimiser" in mean.reasons
    table = study_table(launch, lines)
    assert any("DAS3D prints no optimiser" in row for row in table.caption.splitlines())


def test_a_study_on_80_columns_keeps_the_names_of_its_rows_and_every_figure():
    long = "DBRN( Res-UNet + Swin-Unet )"
    of = studies.Line(
        long, "rgb+3d", "", "mean", 11368.0, 0.978, 0.011, 0.61, 0.912, -0.5, "", "", "", ""
    )
    reasons = studies.SEPARATOR.join(f"reason {i}" for i in range(9))
    lines = [
        replace(of, metric="memory_mb", ours=None, std=None, low=None, note="needs a GPU"),
        replace(
            of, metric="inference_time_s", published=0.041, compares="inferred", reasons=reasons
        ),
        replace(of, metric="aupro_0.3", published=0.975, compares="inferred", reasons="reason 3"),
        replace(of, row="M3DM", metric="i_auroc", published=0.975),
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(study_table({"study": {"paper": "dbrn", "table": "Table VI"}}, lines))
    text = console.export_text()
    for part in (
        "DBRN(",
        "Res-UNet +",
        "M3DM",
        "11,368",
        "97.8 ± 1.1",
        "61.0 to 91.2",
        "difference",
    ):
        assert part in text
    assert text.count("reason 3") == 1 and "needs a GPU" in text and "…" not in text


def test_few_shot_rows_are_kept_apart_by_the_name_of_their_data():
    overrides = ["m3dm.weights.rgb=random-init", "m3dm.weights.point=random-init"]
    plan = study.plan("m3dm/table6", overrides, base="demo")
    assert {cell["dataset"] for cell in plan.cells} == {
        "synthetic",
        "synthetic 5-shot",
        "synthetic 10-shot",
        "synthetic 50-shot",
    }
    assert {tuple(cell["printed"]) for cell in plan.cells} == {
        ("m3dm", ""),
        ("m3dm", "shot_5"),
        ("m3dm", "shot_10"),
        ("m3dm", "shot_50"),
    }


def printed(plan):
    return {(*cell["printed"], cell["setting"]) for cell in plan.cells}


def test_methods_and_settings_choose_rows_and_the_rest_is_said_to_be_left_out():
    given = ["methods=[das3d]", "settings=[3d]", "das3d.texture.source=procedural", "seeds=[5]"]
    plan = study.plan("das3d/table1", given, base=TINY)
    assert printed(plan) == {("das3d", "", "3d")} and {c["seed"] for c in plan.cells} == {5}
    left_out = {tuple(row["printed"]): row["why"] for row in plan.study["left_out"]}
    assert left_out["das3d", "", "rgb"] == left_out["m3dm", "", "3d"] == "not asked for"
    with pytest.raises(ConfigError, match="no row of dbrn; methods of its rows: 3dsr, das3d"):
        study.plan("das3d/table1", ["methods=[dbrn]"], base=TINY)
    with pytest.raises(ConfigError, match="no row is left"):
        study.plan("das3d/table5", [*given[:1], "settings=[rgb+3d]", "methods=[]"], base=TINY)


def test_other_methods_rows_without_their_inputs_are_not_asked_for():
    plan = study.plan("das3d/table5", ["das3d.texture.source=procedural"], base=TINY)
    assert printed(plan) == {("das3d", "", "rgb+3d")}
    why = {row["printed"][0]: row["why"] for row in plan.study["left_out"]}
    assert why["m3dm"] == "not asked for: m3dm.weights.rgb is not set"
    assert why["3dsr"].startswith("not asked for: 3dsr.dada.images.folder is not set")
    with pytest.raises(ConfigError, match="m3dm.weights.rgb is not set"):
        study.plan("das3d/table5", ["methods=[m3dm]"], base=TINY)


def test_rows_of_one_setting_are_left_out_for_want_of_its_own_inputs_alone():
    given = ["das3d.texture.source=procedural", "m3dm.weights.point=random-init"]
    plan = study.plan("das3d/table1", given, base=TINY)
    assert printed(plan) == {
        *(("das3d", "", setting) for setting in ("rgb", "3d", "rgb+3d")),
        ("3dsr", "", "3d"),  # its depth is simulated
        ("m3dm", "", "3d"),
        ("shape_guided", "", "3d"),
    }
    why = {tuple(row["printed"]): row["why"] for row in plan.study["left_out"]}
    for row, what in {
        ("dsr", "", "rgb"): "3dsr.rgb.dada.images.folder is not set",
        ("3dsr", "", "rgb+3d"): "3dsr.dada.images.folder is not set",
        ("m3dm", "", "rgb"): "m3dm.weights.rgb is not set",
        ("shape_guided", "", "rgb+3d"): "shape_guided.weights.rgb is not set",
    }.items():
        assert why.pop(row).startswith(f"not asked for: {what}")
    assert set(why) == {("m3dm", "", "rgb+3d"), ("shape_guided", "", "rgb")}


def test_a_row_has_data_and_settings_of_its_own_and_the_command_line_goes_before(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "paper: das3d\ntable: Table 6\n"
        "rows:\n"
        "  - methods: [das3d]\n"
        "    settings: [rgb+3d]\n"
        "    train_samples: 3\n"
        "    data: {synthetic.seed: 9}\n"
        "    set: {das3d.prep.pad: false, das3d.train.steps: 2}\n"
    )

    def of(*given):
        plan = study.plan(str(file), given, base=TINY)
        (cell,) = [job.about for job in plan.jobs.values() if job.about.kind == "cell"]
        view = plan.jobs[cell.needs.view].about
        return cell, view, plan.jobs[view.needs.dataset].about

    cell, view, data = of()
    assert cell.settings["train"]["steps"] == 2 and cell.train_samples == 3
    assert view.view["pad"] is False and data.recipe["seed"] == 9
    assert of("das3d.train.steps=4")[0].settings["train"]["steps"] == 4


def test_authors_files_that_are_the_protocol_are_taken_where_they_lie(tmp_path, monkeypatch):
    files = {"dino_vitbase8_pretrain.pth", "pointmae_pretrain.pth", "uff_pretrain.pth"}
    for name in files:
        checkpoint(tmp_path / name)
    few = ["datasets.synthetic.kind=synthetic", "datasets.synthetic.categories=[cookie]"]
    few += ["settings=[rgb+3d]", "datasets.synthetic.synthetic.train=256"]
    monkeypatch.setenv("RELIEF_WEIGHTS", str(tmp_path))
    plan = study.plan("m3dm/table1", few)
    inputs = next(job.place.inputs for job in plan.jobs.values() if job.about.kind == "cell")
    assert inputs["weights.uff"] == str(tmp_path / "uff_pretrain.pth")
    assert not any(job.about.stage == "uff" for job in plan.jobs.values())
    (tmp_path / "uff_pretrain.pth").unlink()
    plan = study.plan("m3dm/table1", few)
    assert any(job.about.stage == "uff" for job in plan.jobs.values())
    with pytest.raises(ConfigError, match="weights.uff=published: .* has no uff_pretrain.pth"):
        study.plan("m3dm/table1", [*few, "m3dm.weights.uff=published"])


@pytest.mark.parametrize(
    ("table", "file", "its_own"),
    [
        ("3dsr/table5", "DADA_RGB_D.pckl", {"dada", "dada_real"}),
        ("shape_guided/table4", "ckpt_000601.pth", {"shape_expert"}),
        ("shape_guided/table5", "ckpt_000601.pth", set()),
    ],
)
def test_rows_about_a_stage_have_one_of_their_own_beside_the_authors_file(
    table, file, its_own, tmp_path, monkeypatch
):
    for name in (file, "wide_resnet50_racm-8234f177.pth"):
        checkpoint(tmp_path / name)
    monkeypatch.setenv("RELIEF_WEIGHTS", str(tmp_path))
    given = ["datasets.synthetic.kind=synthetic", "datasets.synthetic.categories=[cookie]"]
    given += ["3dsr.dada.images.source=procedural", "seeds=[0]"]
    plan = study.plan(table, given)
    stages, taken = set(), {}
    for cell in plan.cells:
        job = plan.jobs[cell["key"]]
        found = {plan.jobs[key].about.stage for key in job.needs} & {
            "dada",
            "dada_real",
            "shape_expert",
        }
        stages |= found
        if cell["setting"] != "rgb" or cell["variant"]:  # RGB alone has no shape
            taken[cell["variant"]] = file in {Path(p).name for p in job.place.inputs.values()}
            assert taken[cell["variant"]] != bool(found)
    assert taken.pop("") and stages == its_own
    assert set(taken.values()) == ({False} if its_own else {True})


def test_rows_of_other_backbones_do_not_take_the_main_rows_file_of_the_same_shape(tmp_path):
    for name in ("dino_vitbase8_pretrain.pth", "pointmae_pretrain.pth"):
        checkpoint(tmp_path / name)
    file = tmp_path / "dino_vitbase8_pretrain.pth"
    given = ["datasets.synthetic.kind=synthetic", "datasets.synthetic.categories=[cookie]"]
    given += [f"m3dm.weights.rgb={file}", f"m3dm.weights.point={tmp_path}", "settings=[rgb]"]
    with pytest.raises(ConfigError) as no:
        study.plan("m3dm/supplement_table8", given)
    for wanted in ("augreg_in21k_ft_in1k", "augreg_in21k.safetensors", "dino_deitsmall8"):
        assert wanted in str(no.value)
    assert "dino_vitbase8_pretrain.pth is M3DM, image features: ViT-B/8 of DINO" in str(no.value)


def test_an_unknown_study_is_answered_with_those_there_are():
    with pytest.raises(
        ConfigError, match="no study 'm3dm/table44'; did you mean m3dm/table4"
    ) as no:
        study.plan("m3dm/table44")
    assert "das3d" not in str(no.value)
    with pytest.raises(ConfigError, match="m3dm/table6 is a study, no configuration: relief study"):
        find("m3dm/table6")


def test_a_folder_that_is_not_there_is_told_before_weights():
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        study.plan("m3dm/table6", data="nowhere")


def test_a_study_is_planned_as_a_configuration_is(tmp_path, capsys, monkeypatch):
    asked = ["plan", "m3dm/table6", "seeds=[0]", "--demo", "--store", tmp_path]
    code, out, _ = relief(capsys, monkeypatch, *asked, "--tflops", "60", "--json")
    planned = json.loads(out)
    assert code == 0 and planned["study"]["table"] == "Table 6" and planned["work"]["gpu_hours"]
    assert {job["kind"] for job in planned["jobs"]} >= {"view", "stage", "cell"}
    assert planned["cells"] == len([job for job in planned["jobs"] if job["kind"] == "cell"]) == 8
    code, out, _ = relief(capsys, monkeypatch, *asked, "--explain")
    assert code == 0 and "longest path" in out
    assert relief(capsys, monkeypatch, "plan", "demo", "--demo")[0] == 2
