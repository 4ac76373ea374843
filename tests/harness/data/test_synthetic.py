import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.stats import rankdata

from harness.data.synthetic import (
    CATEGORIES,
    KINDS,
    PRESETS,
    Spec,
)
from harness.data.synthetic.generate import write_category
from harness.data.synthetic.noise import Noise
from harness.data.synthetic.render import Camera, NearCamera, see
from harness.data.synthetic.sample import _scene, _sense, make_sample
from harness.data.synthetic.scene import Scene

FEW = Spec(64, ("cookie",), train=2, validation=1, good=1, per_defect=1)
HOMES = {
    "bump": "rope",
    "color": "dome",
    "combined": "cookie",
    "contamination": "plate",
    "crack": "cookie",
    "cut": "rod",
    "dent": "bagel",
    "geometry_only": "foam",
    "hole": "tread",
    "missing": "plate",
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def make_twin(category: str, split: str, defect: str, index: int, spec: Spec):
    """-> rgb, xyz of the same sample with the same sensor noise, had it no defect."""
    scene = _scene(category, split, defect, index, spec)
    clean = scene.look(scene.raster(spec.camera), spec.camera)
    return _sense(scene, clean, clean, spec.camera)


@pytest.fixture(scope="module")
def cookie(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    write_category(root, "cookie", FEW)
    return root / "cookie"


# Determinism


def test_the_same_seed_gives_the_same_bytes_with_one_worker_or_two(cookie, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_category(Path(), "cookie", FEW, workers=2)
    assert files(tmp_path / "cookie") == files(cookie)


def test_another_seed_gives_other_samples():
    ours, theirs = (make_sample("cookie", "train", "good", 0, replace(FEW, seed=s)) for s in (0, 1))
    assert not np.array_equal(ours[0], theirs[0])


def test_the_layout_of_eyecandies_has_the_same_bytes_with_one_worker_or_two(tmp_path):
    spec = replace(FEW, layout="eyecandies", kinds=("crack", "geometry_only"))
    for workers in (1, 2):
        write_category(tmp_path / str(workers), "cookie", spec, workers=workers)
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_a_sample_does_not_depend_on_how_many_others_there_are(cookie, tmp_path):
    write_category(tmp_path, "cookie", replace(FEW, train=3, good=0, per_defect=2))
    larger, smaller = files(tmp_path / "cookie"), files(cookie)
    for name in (
        "train/good/rgb/001.png",
        "train/good/xyz/001.tiff",
        "test/hole/xyz/000.tiff",
        "test/combined/gt/000.png",
    ):
        assert larger[name] == smaller[name]


@pytest.mark.parametrize(
    "category, kind", [("cookie", "crack"), ("bagel", "missing"), ("dome", "combined")]
)
def test_geometry_and_defect_are_the_same_at_every_resolution(category, kind):
    _, small_xyz, small_mask, small = make_sample(category, "test", kind, 3, Spec(128))
    _, large_xyz, large_mask, large = make_sample(category, "test", kind, 3, Spec(384))
    assert small == large
    thirds = (large_mask > 0).reshape(128, 3, 128, 3).mean((1, 3))
    assert iou(thirds >= 0.25, small_mask > 0) > 0.8
    both = (small_xyz != 0).any(-1) & (large_xyz[1::3, 1::3] != 0).any(-1)
    difference = np.abs(small_xyz - large_xyz[1::3, 1::3])[both]
    assert np.median(difference) < 1e-4  # metres, sensor noise included


def test_every_defect_still_has_a_mask_in_a_64_px_image():
    for kind, category in HOMES.items():
        masks = {size: make_sample(category, "test", kind, 0, Spec(size))[2] for size in (64, 256)}
        assert masks[64].any()
        enlarged = (masks[64] > 0).repeat(4, axis=0).repeat(4, axis=1)
        assert enlarged[masks[256] > 0].mean() > 0.6, kind


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


# Files


def test_the_layout_is_the_published_one(cookie):
    expected = {
        "class_ids.json",
        "manifest.json",
        "readme.txt",
        "calibration/camera_parameters.json",
    }
    for folder, count in FEW.counts("cookie").items():
        for i in range(count):
            expected |= {f"{folder}/rgb/{i:03d}.png", f"{folder}/xyz/{i:03d}.tiff"}
            if folder.startswith("test"):
                expected.add(f"{folder}/gt/{i:03d}.png")
    assert set(files(cookie)) == expected
    assert {p.name for p in (cookie / "test").iterdir()} == {
        "good",
        "hole",
        "crack",
        "contamination",
        "combined",
    }
    assert [p.name for p in cookie.parent.iterdir()] == ["cookie"]


def test_files_have_the_published_types(cookie):
    for path in cookie.rglob("*.tiff"):
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            assert (page.shape, page.dtype, page.compression) == ((64, 64, 3), np.float32, 1)
            assert not {"DateTime", "Software", "ImageDescription"} & {t.name for t in page.tags}
    for path in cookie.rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == (64, 64)
            assert image.mode == ("L" if path.parent.name == "gt" else "RGB")
    assert not np.any(Image.open(cookie / "test/good/gt/000.png"))


def test_mask_values_are_the_class_ids(cookie):
    ids = json.loads((cookie / "class_ids.json").read_text())
    assert ids == {"255": "contamination", "254": "crack", "253": "hole", "0": "good"}
    for value, kind in ids.items():
        found = set(np.unique(Image.open(cookie / f"test/{kind}/gt/000.png")))
        assert found == {0, int(value)}
    combined = set(np.unique(Image.open(cookie / "test/combined/gt/000.png")))
    assert len(combined) >= 3 and combined <= {int(value) for value in ids}


def test_plain_masks_hold_0_and_255_only():
    mask = make_sample("cookie", "test", "combined", 0, replace(FEW, plain_masks=True))[2]
    assert set(np.unique(mask)) == {0, 255}
    assert replace(FEW, plain_masks=True).class_ids("cookie") == {255: "anomaly", 0: "good"}


def test_the_manifest_tells_what_was_drawn(cookie):
    manifest = json.loads((cookie / "manifest.json").read_text())
    drawn = make_sample("cookie", "test", "crack", 0, FEW)[3]
    assert manifest["samples"]["test/crack/000"] == drawn
    assert len(manifest["samples"]) == sum(FEW.counts("cookie").values())


def test_missing_points_are_exactly_zero_and_the_others_follow_the_camera(cookie):
    camera = json.loads((cookie / "calibration" / "camera_parameters.json").read_text())
    xyz = tifffile.imread(cookie / "train/good/xyz/000.tiff")
    valid = xyz[..., 2] > 0
    assert 0.005 < 1 - valid.mean() < 0.2
    assert not xyz[~valid].any()
    x, y, z = xyz[valid].T
    v, u = np.nonzero(valid)
    assert z.min() > 0.5 and z.max() < 0.7
    np.testing.assert_allclose(camera["f"] * x / z + camera["cx"], u, atol=1e-3)
    np.testing.assert_allclose(camera["f"] * y / z + camera["cy"], v, atol=1e-3)


def test_height_and_width_may_differ():
    rgb, xyz, mask, _ = make_sample("rope", "test", "cut", 0, Spec((80, 180)))
    assert rgb.shape == xyz.shape == (80, 180, 3) and mask.shape == (80, 180) and mask.any()


# Interruption


def test_a_kill_half_way_leaves_nothing_half_made_and_the_next_call_goes_on(cookie, tmp_path):
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from harness.data.synthetic import Spec\n"
        "from harness.data.synthetic.generate import write_category\n"
        "def report(done, total):\n"
        "    if done == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_category(Path(sys.argv[1]), 'cookie', {FEW!r}, report)\n"
    )
    root = Path(__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": str(root)}
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=env, cwd=root)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "cookie").exists()
    steps = []
    write_category(tmp_path, "cookie", FEW, lambda done, total: steps.append((done, total)))
    assert steps[0] == (4, 8) and steps[-1] == (8, 8)
    assert files(tmp_path / "cookie") == files(cookie)
    assert [p.name for p in tmp_path.iterdir()] == ["cookie"]


def test_a_finished_category_is_left_alone(cookie):
    before = {p: p.stat().st_mtime_ns for p in cookie.rglob("*")}
    write_category(cookie.parent, "cookie", FEW, report=lambda done, total: pytest.fail("worked"))
    assert {p: p.stat().st_mtime_ns for p in cookie.rglob("*")} == before


def test_other_data_are_never_overwritten(cookie, tmp_path):
    with pytest.raises(FileExistsError, match="seed: 0 there, 1 wanted"):
        write_category(cookie.parent, "cookie", replace(FEW, seed=1))
    (tmp_path / "cookie").mkdir()
    with pytest.raises(FileExistsError, match="no manifest.json"):
        write_category(tmp_path, "cookie", FEW)


# Defects


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_has_a_mask_and_is_visible_in_it(kind):
    category, spec = HOMES[kind], Spec(256)
    rgb, xyz, mask, drawn = make_sample(category, "test", kind, 0, spec)
    twin_rgb, twin_xyz = make_twin(category, "test", kind, 0, spec)
    assert (mask > 0).sum() >= 12
    both = (xyz != 0).any(-1) & (twin_xyz != 0).any(-1)
    in_depth = both & (np.abs(xyz - twin_xyz)[..., 2] > 0.00015)
    in_colour = np.abs(rgb.astype(int) - twin_rgb).max(-1) > 6
    lost = (xyz != 0).any(-1) != (twin_xyz != 0).any(-1)
    assert (in_depth | in_colour | lost)[mask > 0].mean() > 0.45
    assert len(drawn["defects"]) in ((2, 3) if kind == "combined" else (1,))


def test_geometry_only_leaves_the_image_as_it_was():
    rgb, xyz, mask, _ = make_sample("foam", "test", "geometry_only", 0, Spec(128))
    twin_rgb, twin_xyz = make_twin("foam", "test", "geometry_only", 0, Spec(128))
    assert np.array_equal(rgb, twin_rgb)
    both = (mask > 0) & (xyz != 0).any(-1) & (twin_xyz != 0).any(-1)
    assert np.median(np.abs(xyz - twin_xyz)[both][:, 2]) > 0.00015


def test_color_leaves_the_depth_as_it_was():
    rgb, xyz, mask, _ = make_sample("dome", "test", "color", 0, Spec(128))
    twin_rgb, twin_xyz = make_twin("dome", "test", "color", 0, Spec(128))
    both = (xyz != 0).any(-1) & (twin_xyz != 0).any(-1)
    assert np.array_equal(xyz[both], twin_xyz[both])
    changed = np.abs(rgb.astype(int) - twin_rgb).max(-1) > 6
    assert changed[mask > 0].mean() > 0.45
    assert not changed[cv2.dilate(mask, np.ones((5, 5))) == 0].any()


def test_outside_the_mask_little_changes():
    spec = Spec(128, kinds=("hole", "bump", "crack"))
    for kind in spec.kinds:
        xyz, mask = make_sample("bagel", "test", kind, 0, spec)[1:3]
        twin_xyz = make_twin("bagel", "test", kind, 0, spec)[1]
        both = (xyz != 0).any(-1) & (twin_xyz != 0).any(-1)
        far = both & (cv2.dilate(mask, np.ones((7, 7))) == 0)
        assert (np.abs(xyz - twin_xyz)[far][:, 2] > 0.00015).mean() < 0.001


# Parts


def test_noise_is_the_same_field_on_any_grid_and_has_unit_variance():
    noise = Noise(np.random.default_rng(0), 0.01)
    coarse = np.linspace(-0.24, 0.24, 97)
    fine = np.linspace(-0.24, 0.24, 385)
    np.testing.assert_allclose(
        noise.on_grid(fine, fine)[::4, ::4], noise.on_grid(coarse, coarse), atol=1e-4
    )
    assert abs(noise.on_grid(fine, fine).std() - 1) < 0.1
    np.testing.assert_allclose(
        noise.on_grid(coarse + 0.48, coarse), noise.on_grid(coarse, coarse), atol=1e-3
    )


@pytest.mark.parametrize("kind", [Camera, NearCamera])
@pytest.mark.parametrize("category", ["dome", "plate"])
def test_seen_points_are_where_a_slow_march_along_the_ray_first_meets_the_surface(category, kind):
    scene, camera = Scene(category, "train", "good", 0, seed=0, camera=kind), kind(64, 64)
    raster = scene.raster(camera)
    sight = see(raster, scene.pose, camera.rays())
    towards = sight.rays @ scene.pose.normal
    first = np.full(towards.shape, np.nan)
    for h in np.arange(0.032, -1e-4, -1e-4):  # from the camera to the plane
        points = sight.rays * ((scene.pose.distance - h) / towards)[..., None]
        s = points @ scene.pose.axis_s - scene.pose.origin[0]
        t = points @ scene.pose.axis_t - scene.pose.origin[1]
        hit = np.isnan(first) & (raster.look_up(raster.height, s, t) >= h)
        first[hit] = h
    assert (np.abs(first - sight.h) > 2e-4).mean() < 0.02  # bits hidden behind an edge


def test_unknown_names_are_told_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown category 'bread'; known: cookie, bagel"):
        Spec(categories=("bread",))
    with pytest.raises(ValueError, match="unknown defect kind 'scratch'; known: bump, color"):
        Spec(kinds=("scratch",))
    with pytest.raises(ValueError, match="size 8"):
        Spec(size=8)
    with pytest.raises(ValueError, match="unknown layout 'pcd'; known: mvtec3d, eyecandies"):
        Spec(layout="pcd")
    with pytest.raises(ValueError, match="1001 samples for cookie/train/good"):
        Spec(train=1001)


def test_presets_know_all_their_counts():
    for spec in PRESETS.values():
        assert all(sum(spec.counts(category).values()) for category in spec.categories)
    assert PRESETS["paper"].counts("cookie") == {
        "train/good": 210,
        "validation/good": 22,
        "test/good": 28,
        "test/combined": 25,
        "test/contamination": 25,
        "test/crack": 27,
        "test/hole": 26,
    }


# Not trivially solvable


def statistics(category, split, defect, count, spec):
    rows = []
    for index in range(count):
        rgb, xyz, _, _ = make_sample(category, split, defect, index, spec)
        png = io.BytesIO()
        Image.fromarray(rgb).save(png, "PNG")
        z = xyz[..., 2][xyz[..., 2] > 0]
        rows.append(
            [
                *rgb.mean((0, 1)),
                rgb.mean(),
                1 - z.size / xyz[..., 2].size,
                len(png.getvalue()),
                np.ptp(z),
            ]
        )
    return np.array(rows)  # (count, 7)


def auroc(negatives, positives):
    """Per column, over rows."""
    ranks = rankdata(np.concatenate([negatives, positives]), axis=0)[len(negatives) :]
    n, m = len(negatives), len(positives)
    return (ranks.sum(0) - m * (m + 1) / 2) / (n * m)


@pytest.mark.slow
@pytest.mark.parametrize("category", CATEGORIES)
def test_no_single_statistic_separates_defects_or_splits(category):
    spec = Spec(64)
    train = statistics(category, "train", "good", 60, spec)
    good = statistics(category, "test", "good", 60, spec)
    kinds = spec.kinds_of(category)
    defective = np.concatenate([statistics(category, "test", kind, 15, spec) for kind in kinds])
    solved = auroc(good, defective)
    assert np.maximum(solved, 1 - solved).max() < 0.85
    assert np.abs(auroc(train, good) - 0.5).max() < 0.15
