import shutil

import numpy as np
import pytest
from PIL import Image

from harness.data import eyecandies
from harness.data.clouds import backproject
from harness.data.datasets import count_warnings, open_dataset
from harness.data.eyecandies_scan import (
    camera_cloud,
    inverse_pose_cloud,
    m3dm_cloud,
    metric_depth,
    without_conveyor,
)
from harness.data.samples import SPLITS, DataError, fingerprint
from harness.data.synthetic import Spec
from harness.data.synthetic.as_eyecandies import UNITS_PER_M
from harness.data.synthetic.generate import write_category
from harness.data.synthetic.sample import stage

FEW = Spec(64, ("cookie",), train=2, validation=1, good=2, per_defect=1, layout="eyecandies")
F = 711.11


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The root of a dataset with one category. Tests must not change it."""
    root = tmp_path_factory.mktemp("eyecandies")
    write_category(root, "cookie", FEW)
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made / "cookie", tmp_path / "cookie")
    return tmp_path


def opened(root, **options):
    return open_dataset("eyecandies", root, **options).category("cookie")


def data(root, split="test_public"):
    return root / "cookie" / split / "data"


def image(path, array):
    Image.fromarray(array).save(path)


# Parity


@pytest.mark.parity
def test_depth_and_cloud_match_those_of_3dsr(parity):
    found = parity("3dsr").npz("eyecandies_geometry")
    depth = metric_depth(
        found["depth_uint16"], float(found["depth_min"]), float(found["depth_max"])
    )
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, found["depth_m"], atol=1e-6)
    cloud = inverse_pose_cloud(depth, found["pose"], F)
    np.testing.assert_allclose(cloud, found["cloud"][..., :3], atol=1e-6)


@pytest.mark.parity
def test_the_cloud_matches_that_of_m3dms_converter(parity):
    p = parity("m3dm")
    found = p.npz("eyecandies")
    i, j = np.mgrid[:512, :512]
    depth = 0.55 - 0.25 * i / 511 + 0.02 * p.input("eyecandies_depth", (512, 512), "unit")
    depth = depth - 0.15 * ((i - 300) ** 2 + (j - 256) ** 2 < 90**2)
    raw = np.clip(np.round(depth * 65535), 0, 65535).astype(np.uint16)
    depth, pose = metric_depth(raw, 0.5, 3.5), found["pose_f64"]
    np.testing.assert_allclose(depth[::32, ::32], found["depth_m"], atol=1e-6)
    world = inverse_pose_cloud(depth, pose, F)
    np.testing.assert_allclose(world.reshape(-1, 3)[::1021], found["raw"], atol=1e-6)
    clean = m3dm_cloud(depth, pose, F, 0.1).reshape(-1, 3)
    np.testing.assert_allclose(clean[::1021], found["clean"], atol=1e-6)
    mean, deviation, total = found["clean_stat"]
    np.testing.assert_allclose((clean.mean(), clean.std()), (mean, deviation), atol=1e-6)
    np.testing.assert_allclose(np.abs(clean).sum(), total, rtol=1e-5)
    valid = (clean != 0).all(axis=1)
    assert valid.sum() == found["valid_count"]
    assert np.array_equal(np.packbits(valid), found["valid"])
    first = clean[np.flatnonzero(~valid)[0]]
    np.testing.assert_allclose(first, found["removed_point"], atol=1e-6)


# Oracle


def test_the_vectorised_clouds_are_those_of_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 2, (6, 8))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pose = np.block([[turn, rng.normal(size=(3, 1))], [np.zeros((1, 3)), 1]])
    intrinsics = np.array([[90, 0, 4, 0], [0, 90, 3, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    back = np.linalg.inv(intrinsics @ pose)
    found, camera = inverse_pose_cloud(depth, pose, 90), camera_cloud(depth, 90)
    for v in range(6):
        for u in range(8):
            z = depth[v, u]
            np.testing.assert_allclose(found[v, u], (back @ (u, v, 1, 1 / z) * z)[:3], atol=1e-8)
            expected = (u - 4) * z / 90, (v - 3) * z / 90, z
            np.testing.assert_allclose(camera[v, u], expected, atol=1e-8)


def test_no_valid_point_has_a_zero_coordinate_and_missing_ones_have_only_zeros():
    depth = np.ones((4, 6), np.float32)
    depth[0, 3] = depth[1, 1] = 0
    xyz = backproject(depth, 5, 5, 3, 2)
    assert np.array_equal((xyz != 0).all(axis=2), depth > 0)
    assert not xyz[depth == 0].any()


def test_removing_the_conveyor_leaves_what_stands_on_it(made):
    category = opened(made, geometry="m3dm")
    for ref in category.samples("test"):
        sample = ref.read()
        kind, index = next(
            (kind, i)
            for kind, i in [
                ("good", 0),
                ("good", 1),
                ("combined", 0),
                ("contamination", 0),
                ("crack", 0),
                ("hole", 0),
            ]
            if f"{number(kind, i):02d}" == ref.name
        )
        height = stage("cookie", "test", kind, index, FEW).twin.depth.sight.h
        clear = np.abs(height - 0.002) > 2e-4  # 0.02 of the dataset's metres are 2 mm of ours
        assert np.array_equal(sample.valid[clear], (height > 0.002)[clear])
        assert not sample.xyz[~sample.valid].any()


def number(kind, index):
    return index if kind == "good" else 2 + FEW.kinds_of("cookie").index(kind)


# Identity


def test_what_was_written_is_read_back_to_the_step_of_the_depth_images(made):
    refs = [ref for split in SPLITS for ref in opened(made).samples(split)]
    for ref in (ref for ref in refs if not ref.label):
        sample = ref.read()
        staged = stage("cookie", ref.split, "good", int(ref.name), FEW)
        z = staged.twin.depth.sight.z
        step = np.ptp(z) / 65535
        np.testing.assert_allclose(sample.xyz[..., 2], z, atol=0.51 * step + 1e-7)
        np.testing.assert_allclose(
            sample.xyz, z[..., None] * staged.twin.depth.sight.rays, atol=2e-6
        )
        assert sample.valid.all() and sample.xyz.dtype == np.float32
        assert 0.1 < np.median(z) < 0.3 and UNITS_PER_M * opened(made).options.scale == 1


def test_the_masks_and_labels_are_those_written(made):
    test = [ref.read() for ref in opened(made).samples("test")]
    assert [(s.id, s.label) for s in test] == [
        ("test/bad/02", 1),
        ("test/bad/03", 1),
        ("test/bad/04", 1),
        ("test/bad/05", 1),
        ("test/good/00", 0),
        ("test/good/01", 0),
    ]
    for sample in test:
        kinds = [
            np.array(Image.open(data(made) / f"{sample.id[-2:]}_{name}_mask.png")) > 0
            for name in ("bumps", "dents", "colors", "normals")
        ]
        assert np.array_equal(sample.mask, np.any(kinds, axis=0))
        assert sample.mask.any() == bool(sample.label)


def test_a_sample_has_the_seventeen_published_items_and_the_published_digits(made):
    items = {p.name.split("_", 1)[1] for p in data(made).iterdir()}
    assert len(items) == 17 and {"depth.png", "image_0.png", "obj_params.yaml"} <= items
    assert len(list(data(made).iterdir())) == 17 * 6
    assert (data(made, "train") / "001_depth.png").exists() and (
        data(made) / "05_depth.png"
    ).exists()
    assert Image.open(data(made) / "00_depth.png").mode == "I;16"


def test_normals_are_perpendicular_to_the_surface_read_back(made):
    sample = opened(made).samples("train")[0].read()
    normals = np.array(Image.open(data(made, "train") / "000_normals.png")) / 127.5 - 1
    normals = normals * (1, -1, -1)
    down, right = np.gradient(sample.xyz.astype(float), axis=(0, 1))
    for along in (down, right):
        cosine = (normals * along).sum(-1) / np.linalg.norm(along, axis=-1)
        assert np.abs(cosine)[1:-1, 1:-1].mean() < 0.02
    assert (normals[..., 2] < 0).all()


# Options


def test_the_light_is_a_setting(made):
    five, four = (opened(made, light=light).samples("train")[0] for light in (5, 4))
    assert five.rgb.name == "000_image_5.png" and four.rgb.name == "000_image_4.png"
    assert not np.array_equal(five.read().rgb, four.read().rgb)
    assert np.array_equal(five.read().xyz, four.read().xyz)


def test_scale_and_focal_length_are_settings(made):
    one = opened(made).samples("train")[0].read().xyz
    ten = opened(made, scale=1).samples("train")[0].read().xyz
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-5)
    wide = opened(made, focal_px=F / 2).samples("train")[0].read().xyz
    np.testing.assert_allclose(wide, one * (2, 2, 1), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"light": 6}, "no light 6.*5 environment"),
        ({"geometry": "world"}, "camera, m3dm"),
        ({"scale": 0}, "above 0"),
        ({"nonfinite": "missing"}, "no option nonfinite.*light"),
    ],
)
def test_an_option_that_cannot_be_is_refused(made, option, named):
    with pytest.raises(ValueError, match=named):
        opened(made, **option)


def test_the_fingerprint_covers_the_files_that_are_read(root):
    before = fingerprint(opened(root)), fingerprint(opened(root, light=4))
    image(data(root) / "00_image_5.png", np.zeros((64, 64, 3), np.uint8))
    after = fingerprint(opened(root)), fingerprint(opened(root, light=4))
    assert before[0] != after[0] and before[1] == after[1]


# Labels


def test_labels_come_from_the_metadata_even_if_the_mask_is_empty(root, caplog):
    image(data(root) / "02_mask.png", np.zeros((64, 64), np.uint8))
    sample = opened(root).samples("test")[0].read()
    assert sample.id == "test/bad/02" and sample.label == 1
    assert "empty_mask" in caplog.text and "02_mask.png" in caplog.text


def test_without_metadata_the_mask_decides_and_both_counts_are_told(root, caplog):
    (data(root) / "00_metadata.yaml").unlink()
    (data(root) / "02_metadata.yaml").write_text("other: 3\n")
    image(data(root) / "03_mask.png", np.zeros((64, 64), np.uint8))
    assert opened(root).counts()["test"] == {"good": 2, "bad": 4}
    assert "samples=2" in caplog.text and "by label 4, by mask 3, of 6" in caplog.text


def test_without_metadata_or_mask_the_file_is_named(root):
    for item in ("metadata.yaml", "mask.png"):
        (data(root) / f"00_{item}").unlink()
    with pytest.raises(DataError, match="00_mask.png is missing beside"):
        opened(root).samples("test")


def test_an_anomalous_training_sample_is_refused_when_it_is_read(root):
    (data(root, "train") / "001_metadata.yaml").write_text("anomalous: 1\n")
    with pytest.raises(DataError, match="001_metadata.yaml says anomalous.*move"):
        opened(root).samples("train")[1].read()


# Names


def test_files_are_matched_by_number_and_not_by_digits(root):
    for split, digits in (("train", 5), ("test_public", 1)):
        for path in list(data(root, split).iterdir()):
            number, item = path.name.split("_", 1)
            path.rename(path.with_name(f"{int(number):0{digits}d}_{item}"))
    assert [ref.name for ref in opened(root).samples("train")] == ["00000", "00001"]
    assert [ref.name for ref in opened(root).samples("test")] == ["2", "3", "4", "5", "0", "1"]
    assert opened(root).samples("test")[0].read().label == 1


def test_two_files_for_one_item_are_named(root):
    shutil.copy(data(root) / "01_depth.png", data(root) / "001_depth.png")
    with pytest.raises(
        DataError, match="01_depth.png and 001_depth.png are both depth of sample 1"
    ):
        opened(root).samples("test")


def test_other_files_do_no_harm(root):
    (data(root) / "._00_depth.png").touch()
    (data(root) / "Thumbs.db").touch()
    (root / "cookie/test_private/data").mkdir(parents=True)
    (root / "cookie/test_private/data/000_depth.png").touch()
    assert len(opened(root).samples("test")) == 6


# Faults


@pytest.mark.parametrize("item", ["image_5.png", "depth.png", "info_depth.yaml"])
def test_a_missing_file_is_named_with_one_that_is_there(root, item):
    (data(root, "train") / f"001_{item}").unlink()
    with pytest.raises(DataError, match=f"001_{item} is missing beside .*/001_.*; restore it"):
        opened(root).samples("train")


def test_a_pose_is_needed_by_m3dms_geometry_only(root):
    (data(root) / "00_pose.txt").unlink()
    opened(root).samples("test")
    with pytest.raises(DataError, match="00_pose.txt is missing"):
        opened(root, geometry="m3dm").samples("test")


@pytest.mark.parametrize(
    ("item", "content", "named"),
    [
        ("depth.png", b"", "cannot read .*00_depth.png"),
        ("image_5.png", b"\x89PNG", "cannot read .*00_image_5.png"),
        ("info_depth.yaml", b"normalization: {min: 1}", "00_info_depth.yaml has no normalization"),
        ("info_depth.yaml", b"a: [", "cannot read .*00_info_depth.yaml"),
        ("info_depth.yaml", b"just text", "00_info_depth.yaml holds no names"),
        ("info_depth.yaml", b"normalization: {min: 2, max: 1}", "min 2.0, max 1.0 is no range"),
        (
            "info_depth.yaml",
            b"normalization: {min: 1500, max: 1900}",
            "00_depth.png has a median depth of 1.*looks like millimetres, factor 1000; set "
            "datasets.NAME.eyecandies.scale=0.0001",
        ),
    ],
)
def test_a_file_with_wrong_content_is_named(root, item, content, named):
    (data(root) / f"00_{item}").write_bytes(content)
    ref = next(ref for ref in opened(root).samples("test") if ref.name == "00")
    with pytest.raises(DataError, match=named):
        ref.read()


def test_a_metadata_file_without_sense_is_named(root):
    (data(root) / "00_metadata.yaml").write_text("anomalous: maybe\n")
    with pytest.raises(DataError, match="00_metadata.yaml: anomalous is 'maybe'; expected 0 or 1"):
        opened(root).samples("test")


def test_a_mask_of_another_size_is_named(root):
    image(data(root) / "02_mask.png", np.full((32, 32), 255, np.uint8))
    with pytest.raises(DataError, match="02_mask.png is 32 x 32"):
        opened(root).samples("test")[0].read()


def test_an_eight_bit_depth_image_is_refused(root):
    image(data(root) / "00_depth.png", np.full((64, 64), 128, np.uint8))
    with pytest.raises(
        DataError, match="00_depth.png has mode L, values 128 to 128, .*expected a 16-bit"
    ):
        opened(root).samples("test")[4].read()


def test_without_a_labelled_test_split_the_private_one_is_explained(root):
    data(root).parent.rename(root / "cookie/test_private")
    with pytest.raises(DataError, match="no test sample in .*test_private has no labels"):
        opened(root).samples("test")


def test_counts_are_compared_with_the_published_ones(root):
    assert count_warnings(open_dataset("auto", root)) == []
    (root / "cookie").rename(root / "Lollipop")
    assert count_warnings(open_dataset("auto", root)) == []  # made by the program
    (root / "Lollipop/manifest.json").unlink()
    (line,) = count_warnings(open_dataset("auto", root))
    assert "train/good 2 (published 1000)" in line and "test/bad 4 (published 25)" in line


def test_the_conveyor_line_is_the_z_axis_of_the_turned_frame():
    points = np.zeros((3, 2, 3))
    points[..., 0] = -0.5, 0.5
    points[..., 1] = np.array([[-0.1], [0.1], [0.3]])  # rises away from the camera
    points[..., 2] = np.array([[3.0], [2.5], [2.0]])
    removed = without_conveyor(points)
    assert np.allclose(removed[..., 0], 0) and np.ptp(removed.reshape(-1, 3), axis=0).max() < 1e-12
    points[1, 1] += (0, -0.05, 0)  # something stands on the conveyor
    np.testing.assert_allclose(without_conveyor(points)[1, 1], points[1, 1], atol=1e-12)


def test_the_published_names_are_the_ten():
    assert len(eyecandies.CATEGORIES) == 10 and eyecandies.published("cookie") is None
