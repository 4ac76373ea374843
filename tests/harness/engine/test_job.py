"""Whole jobs, in this process, on data made for the purpose."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import torch

from harness import metrics
from harness.data.cache import open_split
from harness.engine.job import main, run_job
from harness.store import COMMON, DONE, FAILED, SKIPPED, Store
from tests.harness.conftest import planned, run


def cells(store, plan):
    return [store.result(cell["key"]) for cell in plan.cells]


def test_a_cell_leaves_all_its_evidence(tiny_store):
    plan = planned()
    trained, untrained = cells(tiny_store, plan)
    assert trained.status == untrained.status == DONE
    assert "untrained" in untrained.marks and "untrained" not in trained.marks
    assert untrained.notes["training"] == "untrained: train.steps of 0"
    assert set(trained.metrics) == set(trained.signatures)
    assert {"i_auroc", "aupro_0.3", "aupro_exact_0.01"} <= set(trained.metrics)
    assert trained.environment["threads"] == trained.environment["cpus"] == 1
    assert trained.timings["fit_s"] > 0 and trained.speed["latency_p50_s"] > 0
    assert trained.sizes["parameters"] > 0
    assert trained.notes["texture_source"] == "procedural"
    folder = tiny_store.folder(trained.key)
    assert not (folder / "checkpoint.pt").exists() and not (folder / "progress.json").exists()
    assert np.load(folder / "pro_curve.npz")["fpr_exact"][-1] == 1.0


def test_a_cell_says_what_its_data_were_and_that_relief_made_them(tiny_store):
    for cell in cells(tiny_store, planned()):
        view, (size,) = tiny_store.result(cell.spec.needs.view), cell.data["sizes"]
        index = json.loads((view.folder / "test" / "index.json").read_text())
        assert cell.data["made"] and cell.data["files"] == [".png", ".tiff"]
        assert all(size == native for native in index["native_sizes"])
        assert cell.data["samples"]["test"] == cell.counts["test"] == len(index["ids"])
        assert cell.data["samples"].items() <= view.summary["samples"].items()


def test_a_cell_is_scored_at_the_sensor_s_pixels_too(tiny_store):
    plan = planned()
    for result in cells(tiny_store, plan):
        found = result.protocols[COMMON]
        assert set(found["metrics"]) == set(found["signatures"]) == set(result.metrics)
        assert "|res:sensor|" in found["signatures"]["p_auroc"]
        assert found["metrics"]["i_auroc"] == result.metrics["i_auroc"]
        assert tiny_store.done(result.truth)
        assert result.truth not in plan.jobs[result.key].spec["needs"].values()


def test_metrics_can_be_computed_again_from_the_stored_maps(tiny_store):
    result = cells(tiny_store, planned())[0]
    folder = tiny_store.folder(result.key)
    _, truth = open_split(tiny_store.folder(result.spec.needs.view), "test")
    table = pq.read_table(folder / "scores.parquet").to_pydict()
    assert table["id"] == json.loads((folder / "maps.json").read_text())["ids"] == list(truth.ids)
    again = metrics.evaluate(
        np.load(folder / "maps.npy"),
        truth.masks,
        np.array(table["score"], np.float32),
        truth.labels,
    )
    assert again == pytest.approx(result.metrics, nan_ok=True, abs=0)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tiny_store, tmp_path):
    store = Store(tmp_path)
    plan = planned("seeds=[0,1]", "methods=[das3d]")
    run(plan, store)
    same, other = cells(store, plan)
    first = cells(tiny_store, planned())[0]
    assert same.metrics == first.metrics
    maps = [
        np.load(s.folder(r.key) / "maps.npy")
        for s, r in ((store, same), (tiny_store, first), (store, other))
    ]
    assert np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[0], maps[2])


def test_a_method_never_gets_labels_or_masks(tiny_store):
    view = next(j for j in planned().jobs.values() if j.spec["kind"] == "view")
    samples, truth = open_split(tiny_store.folder(view.key), "test")
    assert set(samples.arrays) == {"rgb", "depth", "foreground"}
    assert truth.labels.sum() > 0


def test_a_job_can_be_run_by_hand_from_its_description(tiny_store, tmp_path, capsys):
    job = next(j for j in planned().jobs.values() if j.spec["kind"] == "dataset")
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job.describe()))
    assert main([str(path), str(tmp_path / "store")]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == DONE
    assert Store(tmp_path / "store").done(job.key)
    assert main([]) == 2


@pytest.fixture
def data(tiny_store, tmp_path):
    """A writable copy of a small dataset in MVTec 3D-AD layout; -> its category folder."""
    made = next(j for j in planned().jobs.values() if j.spec["kind"] == "dataset")
    shutil.copytree(tiny_store.folder(made.key) / "cookie", tmp_path / "parts" / "cookie")
    return tmp_path / "parts" / "cookie"


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def shrink_rgb(folder):
    path = folder / "test/good/rgb/000.png"
    cv2.imwrite(str(path), cv2.imread(str(path))[:-4])


def put_nan(folder):
    path = folder / "train/good/xyz/000.tiff"
    xyz = tifffile.imread(path)
    xyz[0, 0] = np.nan
    tifffile.imwrite(path, xyz, photometric="rgb")


def empty_train(folder):
    for path in folder.glob("train/good/*/*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: truncate(f / "train/good/xyz/001.tiff"), "train/good/xyz/001.tiff"),
        (lambda f: truncate(f / "test/good/rgb/000.png"), "test/good/rgb/000.png"),
        (shrink_rgb, "test/good/rgb/000.png"),
        (put_nan, "train/good/xyz/000.tiff"),
        (lambda f: (f / "train/good/rgb/001.png").unlink(), "train/good/rgb/001.png is missing"),
        (empty_train, "no training sample"),
    ],
)
def test_bad_data_fails_its_jobs_with_the_file_named_and_loses_nothing(
    damage, named, data, tmp_path
):
    damage(data)
    store, plan = Store(tmp_path / "store"), planned(data=data.parent)
    summary = run(plan, store)
    assert summary.counts == {DONE: 1, FAILED: 1, SKIPPED: 2}  # done is the ground truth
    assert named in summary.failures[0].reason
    assert all(named in result.reason for result in cells(store, plan))


def test_points_that_are_not_finite_can_be_taken_as_missing(data, tmp_path):
    put_nan(data)
    name = data.parent.name
    plan = planned(
        "methods=[das3d/untrained]", f"datasets.{name}.nonfinite=missing", data=data.parent
    )
    assert not run(plan, Store(tmp_path / "store")).failures


def test_a_ground_truth_without_a_region_leaves_pixel_metrics_undefined(data, tmp_path):
    for path in data.glob("test/*/gt/*.png"):
        cv2.imwrite(str(path), np.zeros_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
    store, plan = Store(tmp_path / "store"), planned("methods=[das3d/untrained]", data=data.parent)
    assert not run(plan, store).failures
    result = cells(store, plan)[0]
    assert result.metrics["p_auroc"] is None and result.metrics["aupro_0.3"] is None
    assert result.metrics["i_auroc"] is not None
    assert any("cookie" in line for line in result.log)


def test_a_scene_that_is_all_plane_says_what_to_set(data, tmp_path):
    for path in data.glob("*/*/xyz/*.tiff"):
        xyz = tifffile.imread(path)
        y, x = np.mgrid[: xyz.shape[0], : xyz.shape[1]].astype(np.float32)
        tifffile.imwrite(
            path, np.stack([x * 1e-3, y * 1e-3, np.full_like(x, 0.5)], -1), photometric="rgb"
        )
    store = Store(tmp_path / "store")
    published = planned("methods=[das3d/untrained]", data=data.parent, background="published")
    summary = run(published, store)
    assert "background" in summary.failures[0].reason
    plan = planned("methods=[das3d/untrained]", data=data.parent, background="none")
    assert not run(plan, store).failures


def test_a_killed_job_goes_on_from_its_checkpoint_to_the_same_bits(tiny_store, tmp_path):
    shutil.copytree(tiny_store.path, tmp_path / "store")
    store, plan = Store(tmp_path / "store"), planned("methods=[das3d]", "das3d.train.steps=40")
    cell = plan.cells[0]["key"]
    path = tmp_path / "job.json"
    path.write_text(json.dumps(plan.jobs[cell].describe()))
    command = [sys.executable, "-m", "harness.engine.job", str(path), str(store.path)]
    killed = subprocess.Popen(command)
    checkpoint = store.work(cell) / "checkpoint.pt"
    while not checkpoint.exists():
        assert killed.poll() is None, "the job ended before its first checkpoint"
    killed.kill()
    killed.wait()
    assert not store.done(cell)
    step = torch.load(checkpoint, weights_only=True)["step"]
    assert 0 < step < 40
    assert main([str(path), str(store.path)]) == 0

    undisturbed = Store(tmp_path / "other")
    shutil.copytree(tiny_store.path, undisturbed.path)
    assert main([str(path), str(undisturbed.path)]) == 0
    files = [np.load(s.folder(cell) / "maps.npy") for s in (store, undisturbed)]
    assert np.array_equal(*files)
    assert store.result(cell).metrics == undisturbed.result(cell).metrics


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_disk_that_refuses_writes_stops_the_launch_with_the_reason(tmp_path):
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "from harness.cli.app import main; main()"
    )
    tiny = str(Path(__file__).parents[1] / "tiny.yaml")
    command = [
        sys.executable,
        "-c",
        code,
        "run",
        tiny,
        "--serial",
        "--tracking",
        "none",
        "--store",
        str(tmp_path / "store"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "File too large" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not any(Store(tmp_path / "store").path.glob("jobs/*/*.part"))


def test_exported_maps_fit_the_datasets_own_ground_truth(tiny_store, tmp_path):
    from harness.store.frames import frame_of
    from harness.store.prepared import Prepared
    from reports.forms.export import export_maps

    plan = planned()
    result = tiny_store.result(plan.cells[0]["key"])
    view = tiny_store.folder(result.spec.needs.view)
    made = tiny_store.folder(tiny_store.result(view.name).spec.needs.dataset) / "cookie"
    launch = plan.launch() | {"cells": plan.cells[:1]}
    (folder,) = export_maps(tiny_store, launch, tmp_path, size="original").folders
    samples, truth = open_split(view, "test")
    native, checked = Prepared(view / "test").native_sizes, 0
    shown = tiny_store.result(view.name)
    for id, mask in zip(samples.ids, truth.masks):
        _, defect, name = id.split("/")
        own = cv2.imread(str(made / "test" / defect / "gt" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        path = folder / "maps" / "cookie" / "test" / defect / f"{name}.tiff"
        assert tifffile.imread(path).shape == own.shape
        frame = frame_of(shown, native[id])
        back = frame.back(mask.astype(np.float32), native[id])
        if mask.any():  # its middle is where it was, up to two pixels of the coarser view
            back = np.average(np.argwhere(back), weights=back[back > 0], axis=0)
            off = np.abs(back - np.argwhere(own).mean(axis=0)).max()
            assert off < 2 * 100 / 64
            checked += 1
    assert checked


def test_a_dataset_that_was_whole_and_not_published_is_made_again(tiny_store, tmp_path):
    """A byte of it may have changed in the meantime, and no checksum would tell."""
    job = next(j for j in planned().jobs.values() if j.spec["kind"] == "dataset")
    store, made = Store(tmp_path), tiny_store.folder(job.key)
    category = job.spec["category"]
    shutil.copytree(made / category, store.work(job.key) / category)
    victim = sorted((store.work(job.key) / category).rglob("*.png"))[0]
    victim.write_bytes(bytes(victim.stat().st_size))
    assert run_job(job.describe(), str(store.path)).status == DONE
    assert store.finished(job.key).files == tiny_store.finished(job.key).files
