"""`background: auto`, the user's own masks, and what the quality of a view tells."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from harness.data.datasets import open_dataset
from harness.data.views.build import build_view
from harness.data.views.choice import choose
from harness.data.views.recipes import RECIPES
from tests.harness.data.scans import scan, write_category, write_scan
from tests.harness.data.tables import OBJECT, Scene, render
from tests.harness.data.test_support import THREE

TABLE = Scene(bodies=THREE, size=(120, 160), focal=131, half=(0.9, 0.7))


def write_tables(root, change=lambda xyz: xyz, masks=False, count=4):
    """A category of scenes of a table: train, and one test sample of a scratch."""
    for folder, n in {"train/good": count, "validation/good": 1, "test/scratch": 1}.items():
        for i in range(n):
            xyz, what, _ = render(replace(TABLE, seed=len(folder) * 10 + i))
            rgb = np.full((*what.shape, 3), 90, np.uint8)
            rgb[what == OBJECT] = 200
            gt = (what == OBJECT) & (xyz[..., 0] > 0.05) if "scratch" in folder else None
            gt = None if gt is None else gt.astype(np.uint8)
            write_scan(root / "parts" / folder, f"{i:03}", rgb, change(xyz.copy()), gt)
            if masks:
                path = root / "parts" / folder / "mask" / f"{i:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(((what == OBJECT) * 255).astype(np.uint8)).save(path)
    return open_dataset("auto", root).category("parts")


def flat(xyz):
    """The table alone, as rough as a road."""
    rng = np.random.default_rng(int(1e6 * abs(xyz).sum()) % 2**32)
    rows, columns = np.indices(xyz.shape[:2])
    z = 0.6 + rng.normal(0, 0.001, rows.shape)
    return np.stack([columns * 2e-3 + 1e-3, rows * 2e-3 + 1e-3, z], 2).astype(np.float32)


def test_objects_on_a_table_are_cut_out_along_their_plane(tmp_path):
    choice = choose(write_tables(tmp_path))
    assert choice.name == "plane" and "4 of 4 training samples" in choice.why


def test_a_surface_without_objects_is_all_object(tmp_path):
    choice = choose(write_tables(tmp_path, flat))
    assert choice.name == "none" and "one plane" in choice.why


def test_masks_of_ones_own_are_taken_if_all_have_one(tmp_path):
    category = write_tables(tmp_path, masks=True)
    assert choose(category).name == "mask"
    (category.folder / "train/good/mask/000.png").unlink()
    assert choose(category).name == "plane"


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"plain"}))  # which cuts nothing out
@pytest.mark.parametrize("background", ["auto", "mask"])
def test_every_view_sees_the_objects_of_a_table(tmp_path, name, background):
    category = write_tables(tmp_path / "data", masks=background == "mask", count=2)
    view = replace(RECIPES[name](), size=64).on(background)
    summary = build_view(category, view, tmp_path / "view")
    assert summary["quality"]["suspect"] == [] and summary["quality"]["train_empty"] == 0
    assert ("background" in summary) == (background == "auto")
    file = "xyz" if (tmp_path / "view/train/xyz.npy").exists() else "foreground"
    seen = np.load(tmp_path / "view/train" / f"{file}.npy")
    seen = seen.any(axis=3) if file == "xyz" else seen
    for i, ref in enumerate(category.samples("train")):
        truth = render(replace(TABLE, seed=100 + i))[1] == OBJECT
        rows, columns = (np.arange(64) * n // 64 for n in truth.shape)
        there = truth[rows[:, None], columns]
        assert (seen[i] & there).sum() > 0.9 * there.sum(), ref.id
        assert (seen[i] & there).sum() > 0.5 * seen[i].sum(), ref.id  # and what is missing in it


def test_each_sample_of_a_view_has_its_quality(tmp_path):
    category = write_tables(tmp_path / "data", count=2)
    build_view(category, RECIPES["das3d"]().on("auto"), tmp_path / "view")
    index = json.loads((tmp_path / "view/train/index.json").read_text())
    assert len(index["quality"]) == 2
    one = index["quality"][0]
    assert one["flags"] == [] and one["inliers"] > 0.5 and one["angle_deg"] < 1
    assert one["kept"] > 0.7 and one["contrast"] > 0.1 and 0.4 < one["valid"] < 0.8


def test_depth_that_is_0_everywhere_is_counted_as_nothing_to_learn_from(tmp_path):
    def dark_corner(xyz):
        xyz[:6, :6] = xyz[:6, -6:] = 0
        return xyz

    category = write_tables(tmp_path / "data", dark_corner, count=2)
    summary = build_view(category, RECIPES["dsr3d"](), tmp_path / "view")
    found = summary["quality"]
    assert found["train_empty"] == 2 or set(found["suspect"]) & {"table-kept", "object-lost"}


def test_a_stray_point_that_takes_the_contrast_of_the_depth_is_told(tmp_path):
    def stray(xyz):
        xyz[60:62, 80:82] = (0.1, 0.1, 65.0)
        return xyz

    category = write_tables(tmp_path / "data", stray, count=2)
    summary = build_view(category, RECIPES["das3d"]().on("none"), tmp_path / "view")
    assert "flat-depth" in summary["quality"]["suspect"]


def test_what_is_odd_of_its_samples_makes_a_view_suspect(tmp_path):
    def unseen(xyz):
        xyz[(xyz == 0).all(axis=2)] = -1
        return xyz.transpose(1, 0, 2).reshape(xyz.shape)

    category = write_tables(tmp_path / "data", unseen, count=2)
    first, second = category.samples("train")
    shutil.copy(first.xyz, second.xyz)
    found = build_view(category, RECIPES["plain"]().on("none"), tmp_path / "view")["quality"]
    assert found["suspect"][-3:] == ["stand-in-depth", "crossed-axes", "frozen-depth"]
    assert found["flags"]["frozen-depth"] == 2


def test_a_frame_whose_plane_lies_otherwise_is_told(tmp_path):
    write_category(tmp_path, "dome", 60, 80)
    folder = tmp_path / "dome/train/good"
    rgb, xyz, _ = scan(60, 80, seed=9)
    xyz[..., 2][xyz[..., 2] > 0] += 0.25 * xyz[..., 0][xyz[..., 2] > 0]
    for i in range(3, 8):
        write_scan(folder, f"{i:03}", *scan(60, 80, seed=20 + i)[:2])
    write_scan(folder, "009", rgb, xyz)
    category = open_dataset("auto", tmp_path).category("dome")
    build_view(category, RECIPES["m3dm"]().on("support"), tmp_path / "view")
    index = json.loads((tmp_path / "view/train/index.json").read_text())
    told = {id for id, q in zip(index["ids"], index["quality"]) if "plane-turned" in q["flags"]}
    assert told == {"train/good/009"}


def test_published_views_of_sound_scans_are_not_suspect(tmp_path):
    category = write_category(tmp_path / "data", "dome", 120, 160)
    for recipe in RECIPES.values():
        summary = build_view(category, recipe(), tmp_path / "view")
        assert summary["quality"]["flags"] == {}, recipe.name
