import json
import mmap
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from harness.data.cache import open_split, open_truth
from harness.data.samples import DataError
from harness.data.views import das3d
from harness.data.views.build import build_view, prepare
from harness.data.views.registry import OWN
from methods.contract import View, seed_for
from methods.views import Das3dView, M3dmView
from tests.harness.data.scans import write_category

VIEW = Das3dView(size=48, plane_iterations=50)
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    return write_category(tmp_path_factory.mktemp("data"), height=64, width=80)


@pytest.fixture(scope="module")
def built(category, tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    build_view(category, VIEW, folder)
    return folder


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_a_built_view_reads_back_what_the_builder_made(category, built):
    for split in SPLITS:
        samples, _ = open_split(built, split)
        for i, ref in enumerate(category.samples(split)):
            seed = seed_for("plane", category.name, ref.id)
            made = das3d.prepare(ref.read(), VIEW, seed)
            assert samples.ids[i] == ref.id
            for name, array in samples.arrays.items():
                assert np.array_equal(array[i], made[name])


def test_samples_carry_no_truth(built):
    for split in SPLITS:
        samples, truth = open_split(built, split)
        assert set(samples.arrays) == {"rgb", "depth", "foreground"}
        assert (truth is None) == (split != "test")


def test_the_truth_of_the_test_split_has_labels_defects_and_masks(built):
    samples, truth = open_split(built, "test")
    assert truth.ids == samples.ids
    assert truth.defects == ("good", "hole", "hole")
    assert truth.labels.tolist() == [0, 1, 1] and truth.labels.dtype == np.int64
    assert truth.masks.shape == (3, 48, 48) and truth.masks.dtype == bool
    assert truth.masks.any(axis=(1, 2)).tolist() == [False, True, True]


def test_truth_is_refused_by_name_where_a_split_has_none(built):
    samples, truth = open_truth(built, "test")
    assert truth.ids == samples.ids
    with pytest.raises(DataError, match=r"train/index\.json lists no mask"):
        open_truth(built, "train")


def test_arrays_are_memory_mapped_and_read_only(built):
    samples, truth = open_split(built, "test")
    for array in (*samples.arrays.values(), truth.masks):
        assert isinstance(array.base, mmap.mmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_batches_of_a_split_are_writable_copies(built):
    batch = open_split(built, "train")[0].batch([2, 0])
    assert batch.ids == ("train/good/002", "train/good/000")
    assert batch["rgb"].shape == (2, 48, 48, 3)
    batch["depth"].zero_()


def test_the_files_are_the_same_for_any_number_of_workers(category, built, tmp_path):
    build_view(category, VIEW, tmp_path, workers=2)
    assert contents(tmp_path) == contents(built)


def test_a_build_killed_half_way_starts_over_to_the_same_files(category, built, tmp_path):
    class Killed(Exception):
        pass

    def kill(done, total):
        if done == total - 1:
            raise Killed

    with pytest.raises(Killed):
        build_view(category, VIEW, tmp_path, report=kill)
    with pytest.raises(DataError, match="unfinished"):
        open_split(tmp_path, "train")
    (tmp_path / "train" / "of_another_version.npy").write_bytes(b"")
    build_view(category, VIEW, tmp_path)
    assert contents(tmp_path) == contents(built)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory")
def test_what_is_written_does_not_stay_in_memory(category, tmp_path):
    def mapped_mb():
        line = re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(line.group(1)) / 1e3

    seen = []
    build_view(category, M3dmView(size=800), tmp_path, lambda *step: seen.append(mapped_mb()))
    written_mb = sum(p.stat().st_size for p in tmp_path.rglob("*.npy")) / 1e6
    assert max(seen) - seen[0] < 0.2 * written_mb


def test_progress_counts_every_sample_once(category, tmp_path):
    seen = []
    summary = build_view(category, VIEW, tmp_path, report=lambda *step: seen.append(step))
    assert seen == [(i, 8) for i in range(1, 9)]
    assert summary["samples"] == {"train": 3, "validation": 1, "test": 3, "simulated": 1}
    assert summary["seconds_per_sample"] > 0


def test_a_category_without_validation_has_an_empty_split(tmp_path):
    category = write_category(tmp_path / "data", height=64, width=80, validation=0)
    build_view(category, VIEW, tmp_path / "view")
    samples, truth = open_split(tmp_path / "view", "validation")
    assert len(samples) == 0 and truth is None
    assert samples.arrays["rgb"].shape == (0, 48, 48, 3)


def test_category_wide_depth_is_normalised_over_all_training_samples(category, tmp_path):
    build_view(category, Das3dView(size=48, plane_iterations=50, depth_range="category"), tmp_path)
    depth = open_split(tmp_path, "train")[0].arrays["depth"]
    assert depth.min() == 0 and depth.max() == 1
    assert (depth.max(axis=(1, 2)) < 1).any()  # one sample alone reaches the category's depth


def test_the_index_keeps_the_native_sizes(built):
    index = json.loads((built / "test/index.json").read_text())
    assert index["native_sizes"] == [[64, 80]] * 3


@pytest.mark.parametrize(
    "damage, what",
    [
        (lambda f: (f / "test/depth.npy").unlink(), "test/depth.npy is missing"),
        (lambda f: (f / "test/mask.npy").unlink(), "test/mask.npy is missing"),
        (lambda f: (f / "test/index.json").unlink(), "test/index.json is missing"),
        (lambda f: (f / "test/index.json").write_text("{"), "test/index.json is not readable"),
        (lambda f: (f / "test/index.json").write_text("{}"), "test/index.json lacks arrays"),
        (lambda f: np.save(f / "test/depth.npy", np.zeros((2, 48, 48), "f4")), "expected float32"),
        (lambda f: cut_short(f / "test/rgb.npy"), "test/rgb.npy is not readable"),
        (lambda f: drop_last_id(f / "test/index.json"), "lists 2 ids"),
    ],
    ids=["array", "mask", "index", "json", "keys", "length", "truncated", "ids"],
)
def test_a_damaged_view_names_the_folder_to_delete(category, tmp_path, damage, what):
    build_view(category, VIEW, tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=f"{what}.*delete {tmp_path} and run again"):
        open_split(tmp_path, "test")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def drop_last_id(path):
    index = json.loads(path.read_text())
    index["ids"].pop()
    path.write_text(json.dumps(index))


def test_an_unknown_split_is_answered_with_the_known_ones(built):
    with pytest.raises(ValueError, match="'val'.*train, validation, test"):
        open_split(built, "val")


def test_a_view_without_a_builder_is_refused(category, tmp_path):
    @dataclass(frozen=True)
    class Other(View):
        name = "other"

    with pytest.raises(ValueError, match="no builder for Other; known views: Das3dView"):
        build_view(category, Other(), tmp_path)


def test_a_fault_in_one_sample_is_raised_with_its_file(tmp_path):
    category = write_category(tmp_path / "data", height=64, width=80)
    ref = category.samples("train")[1]
    ref.rgb.write_bytes(ref.rgb.read_bytes()[:500])
    for workers in (1, 2):
        with pytest.raises(DataError, match="cannot read .*rgb/001.png"):
            build_view(category, VIEW, tmp_path / "view", workers=workers)


def test_the_readme_lists_the_arrays_of_every_view_as_the_registry_has_them():
    text = (Path(__file__).parents[3] / "harness/data/README.md").read_text()
    for view in OWN:
        assert view.arrays
        for array in view.arrays:
            of = f"{array.dtype} ({array.shape})"
            cells = (f"`{view.name}`", f"`{array.name}`", of, array.unit, array.content)
            assert f"| {' | '.join(cells)} |" in text


@pytest.mark.parametrize("view", OWN, ids=lambda view: view.name)
def test_a_view_has_the_arrays_that_its_entry_says(view, category):
    made = prepare(category.samples("test")[1].read(), view.recipe(size=64))
    assert {a.name for a in view.arrays} <= made.keys()
    for array in view.arrays:
        shape = [int(side) for side in array.shape.replace("S", "64").split(", ")]
        assert (str(made[array.name].dtype), list(made[array.name].shape)) == (array.dtype, shape)
