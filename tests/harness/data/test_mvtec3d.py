import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.data.datasets import count_warnings, open_dataset
from harness.data.mvtec3d import PUBLISHED_COUNTS
from harness.data.samples import DataError, fingerprint
from tests.harness.data.scans import scan, write_category, write_cloud, write_scan


@pytest.fixture
def dome(tmp_path):
    return write_category(tmp_path)


def first(category, split="train"):
    return category.samples(split)[0]


def test_samples_are_listed_sorted_with_labels_by_folder(dome):
    assert open_dataset("auto", dome.folder.parent).categories == ("dome",)
    assert [ref.id for ref in dome.samples("train")] == [f"train/good/00{i}" for i in range(3)]
    test = dome.samples("test")
    assert [(ref.id, ref.defect, ref.label) for ref in test] == [
        ("test/good/000", "good", 0),
        ("test/hole/000", "hole", 1),
        ("test/hole/001", "hole", 1),
    ]
    assert dome.counts()["test"] == {"good": 1, "hole": 2}


def test_a_sample_is_read_as_written(tmp_path):
    rgb, xyz, mask = scan()
    write_category(tmp_path)
    write_scan(tmp_path / "dome/test/crack", "017", rgb, xyz, mask)
    sample = first(open_dataset("auto", tmp_path).category("dome"), "test").read()
    assert (sample.id, sample.defect, sample.label) == ("test/crack/017", "crack", 1)
    assert sample.rgb.dtype == np.uint8 and np.array_equal(sample.rgb, rgb)
    assert sample.xyz.dtype == np.float32 and np.array_equal(sample.xyz, xyz)
    assert np.array_equal(sample.valid, (xyz != 0).any(axis=2)) and not sample.valid.all()
    assert np.array_equal(sample.mask, mask > 0)


def test_a_point_with_one_zero_coordinate_is_valid(dome):
    ref = first(dome)
    xyz = tifffile.imread(ref.xyz)
    xyz[5, 6] = 0, 0.01, 0.6
    write_cloud(ref.xyz, xyz)
    assert ref.read().valid[5, 6]


def test_a_good_test_sample_without_gt_has_an_empty_mask(dome):
    sample = first(dome, "test").read()
    assert sample.label == 0 and sample.mask.shape == (48, 64) and not sample.mask.any()


def test_validation_may_be_absent(tmp_path):
    assert write_category(tmp_path, validation=0).samples("validation") == []


def test_gaps_in_the_numbering_and_files_of_archivers_do_no_harm(dome):
    for part, suffix in (("rgb", "png"), ("xyz", "tiff")):
        folder = dome.folder / "train/good" / part
        (folder / f"001.{suffix}").unlink()
        (folder / f"._002.{suffix}").write_bytes(b"")
    assert [ref.name for ref in dome.samples("train")] == ["000", "002"]


def test_a_root_that_does_not_exist_is_reported_with_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.*train/good"):
        open_dataset("auto", tmp_path / "nowhere")


def test_a_folder_in_another_layout_is_reported_with_what_it_holds(tmp_path):
    (tmp_path / "Lollipop/images").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="train/good.*holds Lollipop/, notes.txt"):
        open_dataset("auto", tmp_path)


def test_a_root_one_level_too_high_or_too_low_names_the_right_one(tmp_path):
    root = tmp_path / "outer" / "data"
    write_category(root)
    with pytest.raises(ValueError, match=f"one level further down; give {root}"):
        open_dataset("auto", tmp_path / "outer")
    for low in ("dome", "dome/train", "dome/train/good"):
        with pytest.raises(ValueError, match=f"the folder above it, {root}"):
            open_dataset("auto", root / low)


def test_an_unknown_category_is_answered_with_the_nearest_names_first(tmp_path):
    for name in ("bagel", "carrot", "cable_gland"):
        write_category(tmp_path, name)
    with pytest.raises(ValueError, match="unknown category 'carot'.*known: carrot, "):
        open_dataset("auto", tmp_path).category("carot")


def test_an_unknown_split_is_answered_with_the_known_ones(dome):
    with pytest.raises(ValueError, match="'val'.*train, validation, test"):
        dome.samples("val")


@pytest.mark.parametrize("part", ["rgb", "xyz", "gt"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.75])
def test_a_truncated_file_is_named(dome, part, keep):
    path = getattr(dome.samples("test")[1], part)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match=f"cannot read .*{path.parent.name}/{path.name}.*restore"):
        dome.samples("test")[1].read()


@pytest.mark.parametrize("part", ["rgb", "gt"])
def test_parts_of_different_size_are_named_with_their_sizes(dome, part):
    ref = dome.samples("test")[1]
    path = getattr(ref, part)
    Image.open(path).resize((32, 24)).save(path)
    with pytest.raises(DataError, match=f"test/hole/000.*{part}/{path.name} is 24 x 32"):
        ref.read()


@pytest.mark.parametrize(
    "missing", ["train/good/rgb/001.png", "train/good/xyz/001.tiff", "test/hole/gt/001.png"]
)
def test_a_missing_partner_is_named_beside_what_is_there(dome, missing):
    (dome.folder / missing).unlink()
    with pytest.raises(DataError, match=f"{missing} is missing beside .*001"):
        dome.samples(missing.split("/")[0])


def test_an_empty_train_folder_is_an_error(dome):
    for path in dome.folder.glob("train/good/*/*"):
        path.unlink()
    with pytest.raises(DataError, match="no training sample in .*train"):
        dome.samples("train")


def test_defects_in_the_train_folder_are_an_error(dome):
    (dome.folder / "test/hole").rename(dome.folder / "train/hole")
    with pytest.raises(DataError, match="holds hole beside 'good'"):
        dome.samples("train")


def test_nan_points_are_counted_and_can_be_taken_as_missing(dome):
    ref = first(dome)
    xyz = tifffile.imread(ref.xyz)
    xyz[3, 4], xyz[10, 20, 2] = np.nan, np.inf
    write_cloud(ref.xyz, xyz)
    with pytest.raises(DataError, match='000.tiff has 2 points.*nonfinite="missing"'):
        ref.read()
    sample = first(
        open_dataset("auto", dome.folder.parent, nonfinite="missing").category("dome")
    ).read()
    assert not sample.valid[3, 4] and not sample.valid[10, 20]
    assert np.isfinite(sample.xyz).all()


def test_an_unknown_policy_for_nan_points_is_refused(dome):
    with pytest.raises(ValueError, match="'skip'.*error, missing"):
        open_dataset("auto", dome.folder.parent, nonfinite="skip")


def test_an_almost_empty_cloud_is_an_error(dome):
    ref = first(dome)
    xyz = np.zeros((48, 64, 3), np.float32)
    xyz[0, :20] = 0.5
    write_cloud(ref.xyz, xyz)
    with pytest.raises(DataError, match="000.tiff has 20 valid points of 3072"):
        ref.read()


@pytest.mark.parametrize(
    "array", [np.ones((48, 64), np.float32), np.ones((48, 64, 3), np.uint16)], ids=["flat", "int"]
)
def test_a_tiff_that_is_no_cloud_is_an_error(dome, array):
    ref = first(dome)
    tifffile.imwrite(ref.xyz, array)
    with pytest.raises(DataError, match=r"000.tiff is .*expected float32 \(rows, columns, 3\)"):
        ref.read()


def test_points_behind_the_camera_are_only_warned_about(dome, caplog):
    ref = first(dome)
    xyz = tifffile.imread(ref.xyz)
    xyz[..., 2] -= xyz[..., 2] != 0
    write_cloud(ref.xyz, xyz)
    assert ref.read().valid.mean() > 0.9
    assert "z_not_positive" in caplog.text and "000.tiff" in caplog.text


def test_an_empty_mask_of_a_defective_sample_is_warned_about_and_the_label_kept(dome, caplog):
    ref = dome.samples("test")[1]
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(ref.gt)
    sample = ref.read()
    assert sample.label == 1 and not sample.mask.any()
    assert "empty_mask" in caplog.text and "gt/000.png" in caplog.text


def test_the_fingerprint_changes_with_a_file_and_not_with_the_place(dome, tmp_path):
    before = fingerprint(dome)
    assert before == fingerprint(open_dataset("auto", dome.folder.parent).category("dome"))
    (tmp_path / "elsewhere").mkdir()
    moved = dome.folder.rename(tmp_path / "elsewhere" / "dome")
    dome = open_dataset("auto", moved.parent).category("dome")
    assert fingerprint(dome) == before
    path = first(dome).rgb
    path.write_bytes(path.read_bytes() + b"\0")
    after = fingerprint(dome)
    assert after != before
    for part in ("rgb", "xyz"):
        next((dome.folder / "train/good" / part).glob("002.*")).unlink()
    assert fingerprint(dome) not in (before, after)


def test_faulty_data_has_a_fingerprint_of_its_own(dome):
    before = fingerprint(dome)
    first(dome).xyz.unlink()
    assert fingerprint(dome) != before


def test_counts_are_compared_with_the_published_ones_by_name(tmp_path):
    write_category(tmp_path, "dome")
    write_category(tmp_path, "rope")
    write_category(tmp_path, "bagel")
    (tmp_path / "bagel/manifest.json").touch()  # a synthetic one
    (line,) = count_warnings(open_dataset("auto", tmp_path))
    assert "rope" in line and "train/good 3 (published 298)" in line
    assert "test/hole 2 (published 0)" in line and "test/open 0 (published 17)" in line


def test_the_published_counts_add_up_to_the_release():
    train, validation, _, _, test = zip(*PUBLISHED_COUNTS.values())
    good = sum(folders["good"] for folders in test)
    images = sum(sum(folders.values()) for folders in test)
    assert (sum(train), sum(validation), good, images - good) == (2656, 294, 249, 948)
