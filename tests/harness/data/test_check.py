"""Every kind of fault, planted in a clean dataset, must be found and named."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.data.check import ERROR, WARNING, check
from harness.data.datasets import open_dataset
from harness.data.samples import DataError
from harness.data.synthetic import Spec
from harness.data.synthetic.generate import write_category
from tests.harness.data.scans import write_cloud

FEW = Spec(48, ("cookie",), train=3, validation=1, good=2, per_defect=1, kinds=("hole", "crack"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """layout -> root of a clean dataset with one category"""
    roots = {}
    for layout in ("mvtec3d", "eyecandies"):
        roots[layout] = tmp_path_factory.mktemp(layout)
        write_category(roots[layout], "cookie", replace(FEW, layout=layout))
    return roots


@pytest.fixture
def mvtec(clean, tmp_path):
    return shutil.copytree(clean["mvtec3d"], tmp_path / "data") / "cookie"


@pytest.fixture
def candy(clean, tmp_path):
    return shutil.copytree(clean["eyecandies"], tmp_path / "data") / "cookie"


def checked(folder, **options):
    return check(open_dataset("auto", folder.parent), **options)


def image(path, array):
    Image.fromarray(array).save(path)


def cloud(path, change):
    xyz = tifffile.imread(path)
    write_cloud(path, np.ascontiguousarray(change(xyz), np.float32))


def nan(xyz):
    xyz[3, 4] = np.nan
    return xyz


@pytest.mark.parametrize("layout", ["mvtec3d", "eyecandies"])
def test_a_clean_dataset_has_no_problem(clean, layout):
    steps = []
    found = check(open_dataset("auto", clean[layout]), report=lambda *step: steps.append(step))
    assert found.problems == [] and found.opened == 8 and steps[-1] == (8, 8)
    assert found.sizes == {"cookie": [48, 48]}
    bad = {"hole": 1, "crack": 1} if layout == "mvtec3d" else {"bad": 2}
    assert found.counts == {
        "cookie": {"train": {"good": 3}, "validation": {"good": 1}, "test": {"good": 2, **bad}}
    }


MVTEC_FAULTS = {
    "truncated cloud": (
        lambda f: (f / "train/good/xyz/001.tiff").write_bytes(b"II*\0"),
        ERROR,
        "train/good/xyz/001.tiff",
        "cannot read",
        "restore",
    ),
    "empty image": (
        lambda f: (f / "test/hole/rgb/000.png").write_bytes(b""),
        ERROR,
        "test/hole/rgb/000.png",
        "cannot read",
        "restore",
    ),
    "16-bit image": (
        lambda f: image(f / "train/good/rgb/001.png", np.zeros((48, 48), np.uint16)),
        ERROR,
        "train/good/rgb/001.png",
        "mode I;16, shape (48, 48), as images of depth have",
        "8-bit RGB PNG, or move depth to depth/",
    ),
    "lost partner": (
        lambda f: (f / "validation/good/rgb/000.png").unlink(),
        ERROR,
        "validation/good/rgb/000.png",
        "is missing beside",
        "restore",
    ),
    "lost mask": (
        lambda f: (f / "test/crack/gt/000.png").unlink(),
        ERROR,
        "test/crack/gt/000.png",
        "is missing beside",
        "restore",
    ),
    "image of another size": (
        lambda f: image(f / "train/good/rgb/002.png", np.zeros((40, 48, 3), np.uint8)),
        ERROR,
        "train/good/rgb/002.png",
        "is 40 x 48",
        "pixel-aligned",
    ),
    "mask of another size": (
        lambda f: image(f / "test/hole/gt/000.png", np.full((24, 48), 255, np.uint8)),
        ERROR,
        "test/hole/gt/000.png",
        "is 24 x 48",
        "pixel-aligned",
    ),
    "NaN points": (
        lambda f: cloud(f / "train/good/xyz/000.tiff", nan),
        ERROR,
        "train/good/xyz/000.tiff",
        "1 points that are NaN",
        'nonfinite="missing"',
    ),
    "almost no points": (
        lambda f: cloud(f / "train/good/xyz/000.tiff", lambda xyz: 0 * xyz),
        ERROR,
        "train/good/xyz/000.tiff",
        "0 valid points",
        "remove",
    ),
    "millimetres": (
        lambda f: cloud(f / "train/good/xyz/000.tiff", lambda xyz: xyz * 1000),
        ERROR,
        "train/good/xyz/000.tiff",
        "looks like millimetres, factor 1000",
        "scale=0.001",
    ),
    "unorganised cloud": (
        lambda f: cloud(f / "train/good/xyz/000.tiff", lambda xyz: xyz.reshape(-1, 3)),
        ERROR,
        "train/good/xyz/000.tiff",
        "unorganised",
        "reshape(rows, columns, 3)",
    ),
    "two files of one name": (
        lambda f: shutil.copy(f / "train/good/xyz/000.tiff", f / "train/good/xyz/000.tif"),
        ERROR,
        "train/good/xyz/000.tiff",
        "same name '000'",
        "keep the right one",
    ),
    "defects among the training samples": (
        lambda f: (f / "test/hole").rename(f / "train/hole"),
        ERROR,
        "train",
        "holds hole beside 'good'",
        "move them to 'test'",
    ),
    "no training sample": (
        lambda f: shutil.rmtree(f / "train"),
        ERROR,
        "",
        "no training sample",
        "put some there",
    ),
    "empty mask": (
        lambda f: image(f / "test/hole/gt/000.png", np.zeros((48, 48), np.uint8)),
        WARNING,
        "test/hole/gt/000.png",
        "no pixel of its mask",
        "label 1",
    ),
    "mask on a good sample": (
        lambda f: image(f / "test/good/gt/001.png", np.full((48, 48), 9, np.uint8)),
        WARNING,
        "test/good/gt/001.png",
        "2304 pixels of its mask",
        "clear the mask",
    ),
    "z towards the camera": (
        lambda f: cloud(f / "train/good/xyz/000.tiff", lambda xyz: -xyz),
        WARNING,
        "train/good/xyz/000.tiff",
        "have z <= 0",
        "check the axes",
    ),
    "sample of another size": (
        lambda f: [
            image(f / "train/good/rgb/000.png", np.zeros((40, 48, 3), np.uint8)),
            cloud(f / "train/good/xyz/000.tiff", lambda xyz: xyz[:40]),
        ],
        WARNING,
        "train/good/xyz/000.tiff",
        "40 x 48 px, and 7 samples",
        "alike",
    ),
    "a folder that is no category": (
        lambda f: (f.parent / "notes").mkdir(),
        WARNING,
        "../notes",
        "not recognised as a category",
        "expected <category>",
    ),
    "published name, other counts": (
        lambda f: (f / "manifest.json").unlink(),
        WARNING,
        "",
        "train/good 3 (published 210)",
        "complete it",
    ),
    "published name, other size": (
        lambda f: (f / "manifest.json").unlink(),
        WARNING,
        "",
        "48 x 48 px, published with 500 x 500",
        "unpack it again",
    ),
    "published categories that are not there": (
        lambda f: (f / "manifest.json").unlink(),
        WARNING,
        "..",
        "9 of the 10 published categories are not here: bagel",
        "unpack them",
    ),
}

CANDY_FAULTS = {
    "truncated depth": (
        lambda d: (d / "test_public/data/00_depth.png").write_bytes(b"\x89PNG\r\n"),
        ERROR,
        "test_public/data/00_depth.png",
        "cannot read",
        "restore",
    ),
    "lost info file": (
        lambda d: (d / "train/data/001_info_depth.yaml").unlink(),
        ERROR,
        "train/data/001_info_depth.yaml",
        "is missing beside",
        "restore",
    ),
    "info file without a range": (
        lambda d: (d / "train/data/001_info_depth.yaml").write_text("depth: 3\n"),
        ERROR,
        "train/data/001_info_depth.yaml",
        "no normalization",
        "restore",
    ),
    "lost light": (
        lambda d: (d / "val/data/00_image_5.png").unlink(),
        ERROR,
        "val/data/00_image_5.png",
        "is missing beside",
        "restore",
    ),
    "lost light that is not used": (
        lambda d: (d / "val/data/00_image_2.png").unlink(),
        WARNING,
        "val/data/00_image_2.png",
        "light 2 (right) is missing",
        "never set light=2",
    ),
    "damaged light that is not used": (
        lambda d: (d / "val/data/00_image_2.png").write_bytes(b"no image"),
        WARNING,
        "val/data/00_image_2.png",
        "light 2 (right) is not readable",
        "restore",
    ),
    "depth in millimetres": (
        lambda d: (d / "train/data/000_info_depth.yaml").write_text(
            "normalization: {min: 1500, max: 2000}\n"
        ),
        ERROR,
        "train/data/000_depth.png",
        "looks like millimetres, factor 1000",
        "scale=0.0001",
    ),
    "mask of another size": (
        lambda d: image(d / "test_public/data/02_mask.png", np.full((9, 9), 255, np.uint8)),
        ERROR,
        "test_public/data/02_mask.png",
        "is 9 x 9",
        "pixel-aligned",
    ),
    "lost mask": (
        lambda d: (d / "test_public/data/02_mask.png").unlink(),
        ERROR,
        "test_public/data/02_mask.png",
        "is missing beside",
        "restore",
    ),
    "empty mask": (
        lambda d: image(d / "test_public/data/02_mask.png", np.zeros((48, 48), np.uint8)),
        WARNING,
        "test_public/data/02_mask.png",
        "no pixel of its mask",
        "label 1",
    ),
    "number used twice": (
        lambda d: shutil.copy(d / "train/data/000_depth.png", d / "train/data/00_depth.png"),
        ERROR,
        "train/data/00_depth.png",
        "both depth of sample 0",
        "keep the right one",
    ),
    "anomalous training sample": (
        lambda d: (d / "train/data/002_metadata.yaml").write_text("anomalous: 1\n"),
        ERROR,
        "train/data/002_metadata.yaml",
        "says anomalous, in train",
        "test_public",
    ),
    "label by the mask alone": (
        lambda d: (d / "test_public/data/02_metadata.yaml").unlink(),
        WARNING,
        "test_public/data/02_mask.png",
        "by its mask the sample is bad",
        "restore",
    ),
    "label without sense": (
        lambda d: (d / "test_public/data/00_metadata.yaml").write_text("anomalous: 7\n"),
        ERROR,
        "test_public/data/00_metadata.yaml",
        "anomalous is 7",
        "restore",
    ),
    "no test split": (
        lambda d: shutil.rmtree(d / "test_public"),
        ERROR,
        "",
        "no test sample",
        "put some there",
    ),
}


def assert_found(found, folder, severity, file, problem, todo):
    name = str((folder / file).resolve().relative_to(folder.parent)) if file else folder.name
    name = "." if file == ".." else name
    fitting = [p for p in found.problems if p.severity == severity and p.file == name]
    assert any(problem in p.problem and todo in p.todo for p in fitting), found.problems
    assert str(folder.parent) not in json.dumps(found.plain()["problems"])  # names are relative


@pytest.mark.parametrize("fault", MVTEC_FAULTS)
def test_a_fault_in_the_layout_of_mvtec_is_found_and_named(mvtec, fault):
    plant, *expected = MVTEC_FAULTS[fault]
    plant(mvtec)
    assert_found(checked(mvtec, workers=2), mvtec, *expected)


@pytest.mark.parametrize("fault", CANDY_FAULTS)
def test_a_fault_in_the_layout_of_eyecandies_is_found_and_named(candy, fault):
    plant, *expected = CANDY_FAULTS[fault]
    plant(candy)
    assert_found(checked(candy, workers=2), candy, *expected)


def test_all_faults_are_listed_and_not_only_the_first(mvtec):
    (mvtec / "train/good/rgb/000.png").unlink()
    (mvtec / "train/good/xyz/002.tiff").write_bytes(b"")
    (mvtec / "test/hole/rgb/000.png").write_bytes(b"")
    image(mvtec / "test/crack/gt/000.png", np.zeros((48, 48), np.uint8))
    found = checked(mvtec)
    assert (found.errors, found.warnings) == (3, 2)  # of the mask, and that two are left to train
    assert [p.severity for p in found.problems] == [ERROR] * 3 + [WARNING] * 2


def test_what_is_the_same_of_many_files_is_one_group(mvtec):
    for path in (mvtec / "train/good/xyz").iterdir():
        cloud(path, lambda xyz: np.where(xyz == 0, np.float32(-1), xyz))
    (mvtec / "test/hole/rgb/000.png").write_bytes(b"")
    found = checked(mvtec, quick=True)
    assert [len(group) for group in found.groups()] == [1, 3]
    assert "stand for" in (told := found.groups()[1][0]).problem or "no depth" in told.problem


def test_a_category_without_a_name_in_utf8_is_left_out_and_told(mvtec, caplog):
    os.rename(shutil.copytree(mvtec, mvtec.with_name("other")), os.fsencode(mvtec) + b"\xe9")
    found = checked(mvtec, quick=True)
    (told,) = found.problems
    assert told.severity == ERROR and told.file == "cookie\\xe9" and "rename it" in told.todo
    assert list(found.counts) == ["cookie"] and "cookie\\xe9 is no UTF-8" in caplog.text
    shutil.rmtree(mvtec)
    with pytest.raises(DataError, match=r"cookie\\xe9 is no UTF-8; rename it"):
        open_dataset("auto", mvtec.parent)


def test_a_quick_check_opens_a_few_files_of_every_folder(mvtec, tmp_path):
    write_category(
        tmp_path / "more",
        "foam",
        Spec(32, train=9, validation=0, good=5, per_defect=4, kinds=("hole",)),
    )
    assert check(open_dataset("auto", tmp_path / "more"), quick=True).opened == 9
    (mvtec / "train/good/xyz/002.tiff").write_bytes(b"")
    assert checked(mvtec, quick=True).errors == 1


def test_the_report_is_plain_json_and_the_same_for_any_number_of_workers(mvtec):
    for path in (mvtec / "train/good/xyz").iterdir():
        path.write_bytes(b"")
    one, four = (checked(mvtec, workers=n).plain() for n in (1, 4))
    assert one == four == json.loads(json.dumps(one))
    assert one["ok"] is False and one["opened"] == 8 and len(one["problems"]) == 3


@pytest.mark.parametrize("layout", ["mvtec3d", "eyecandies"])
def test_whatever_bytes_are_damaged_the_file_is_named_or_the_sample_is_read(
    clean, layout, tmp_path
):
    folder = shutil.copytree(clean[layout], tmp_path / "data") / "cookie"
    ref = open_dataset("auto", folder.parent).category("cookie").samples("test")[0]
    rng = np.random.default_rng(0)
    raised = 0
    for path in (ref.rgb, ref.xyz, ref.gt):
        content = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(content)
            for place in rng.integers(0, min(200, len(content)), 3):
                damaged[place] = rng.integers(0, 256)
            path.write_bytes(bytes(damaged))
            try:
                ref.verify()
            except DataError as fault:
                assert fault.file and str(fault.file) in fault.problem
                raised += 1
        path.write_bytes(content)
    assert raised > 60
