"""What `data check` says of samples that can all be read."""

import io
import shutil

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.data.check import check
from harness.data.datasets import open_dataset
from harness.data.plausible import Seen, _unused, of_samples
from harness.data.recorded import picture
from harness.data.samples import SPLITS
from harness.data.views.reference import Reference
from tests.harness.data.scans import write_category, write_cloud
from tests.harness.data.test_quality import flat, write_tables


def invert(path):
    Image.fromarray(255 - np.array(Image.open(path))).save(path)


def deepen(folder):
    """The training images in 12 bits, the second of them dark."""
    for i, path in enumerate(sorted(folder.glob("train/good/rgb/*.png"))):
        image = np.array(Image.open(path)).astype(np.uint16) << 4
        cv2.imwrite(str(path), (image >> 3 * (i == 1))[..., ::-1])


def freeze(folder):
    first, *others = sorted(folder.glob("train/good/xyz/*.tiff"))
    for other in others:
        shutil.copy(first, other)


def through_jpeg(path):
    """A mask that was a JPEG for a while."""
    kept = io.BytesIO()
    Image.fromarray((np.array(Image.open(path)) > 0) * np.uint8(255)).save(kept, "jpeg", quality=50)
    Image.open(kept).save(path)


def of_clouds(change, where="train/good/xyz/*.tiff"):
    """Each cloud of a pattern changed."""

    def plant(folder):
        for path in folder.glob(where):
            write_cloud(path, change(tifffile.imread(path)).astype(np.float32))

    return plant


def outline(folder, names, value=255):
    """Masks of the objects of some samples of each folder."""
    for rgb in folder.glob("*/*/rgb"):
        (rgb.parent / "mask").mkdir()
        for name in names:
            if (rgb / name).exists():
                Image.new("L", (64, 48), value).save(rgb.parent / "mask" / name)


def redraw(change, where="test/hole/gt/*.png"):
    """Each mask of a pattern changed."""

    def plant(folder):
        for path in folder.glob(where):
            Image.fromarray(change(np.array(Image.open(path)))).save(path)

    return plant


def ring(mask):
    found = mask * 0
    cv2.circle(found, (32, 24), 9, 255, 1)
    return found


def stain(mask):
    found = mask * 0
    cv2.circle(found, (32, 24), 9, 255, -1)
    return found


def framed(mask):
    return np.pad(mask[1:-1, 1:-1] * 0, 1, constant_values=255)


def recolour(where, change):
    def plant(folder):
        for path in folder.glob(where):
            Image.fromarray(change(np.array(Image.open(path)))).save(path)

    return plant


def smooth(folder):
    """Images of which a small copy tells them apart, unlike noise."""
    for path in folder.glob("*/*/rgb/*.png"):
        image = Image.open(path)
        image.resize((8, 6)).resize(image.size, Image.Resampling.BICUBIC).save(path)


def compressed_again(folder):
    smooth(folder)
    target = folder / "test/good/rgb/000.png"
    Image.open(folder / "train/good/rgb/000.png").save(target.with_suffix(".jpg"), quality=90)
    target.unlink()


def defects_as_jpeg(folder):
    for path in folder.glob("test/hole/rgb/*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    for part, end in (("rgb", "png"), ("xyz", "tiff")):
        shutil.copy(folder / f"train/good/{part}/000.{end}", folder / f"test/good/{part}/001.{end}")


def half(image):
    image[24:] = 0
    return image


def region_masks(folder, change):
    rows, columns = np.indices((48, 64))
    dome = np.hypot(rows - 24, columns - 32) < 15
    for rgb in folder.glob("*/*/rgb/*.png"):
        target = rgb.parents[1] / "mask" / rgb.name
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(change(dome).astype(np.uint8) * 255).save(target)


FAULTS = {
    "masks of a ring": (redraw(ring), "it marks an outline", "fill it"),
    "masks of the frame": (redraw(framed), "marks the frame", "Write 0 there"),
    "a mask of one pixel": (
        redraw(lambda m: np.pad(np.full((1, 1), 255, np.uint8), ((9, 38), (9, 54)))),
        "it marks 1 pixel",
        "clear it",
    ),
    "one mask for all": (redraw(stain), "the same mask", "own"),
    "grey images among colours": (
        recolour("train/good/rgb/000.png", lambda rgb: rgb[..., 0]),
        "1 of 7 images are grey",
        "alike",
    ),
    "half an image": (
        recolour("train/good/rgb/000.png", half),
        "50% of its rows or columns are of one colour",
        "Restore",
    ),
    "a darker test": (
        recolour("test/*/rgb/*.png", lambda rgb: rgb // 3),
        "median grey levels of 4",
        "at the same light",
    ),
    "a nearer test": (
        of_clouds(lambda xyz: xyz * 0.9, "test/*/xyz/*.tiff"),
        "median depths of 0.5",
        "at the same distance",
    ),
    "defects in another format": (defects_as_jpeg, "differ in their format", "alike"),
    "a training image compressed again": (
        compressed_again,
        "nearly the same image",
        "not have seen",
    ),
    "one image to train on": (
        lambda f: [p.unlink() for n in (1, 2) for p in f.glob(f"train/good/*/00{n}.*")],
        "1 sample to train on",
        "some dozen",
    ),
    "a folder of nothing": (
        lambda f: (f / "test/dent/rgb").mkdir(parents=True),
        "has no files",
        "remove it",
    ),
    "floats written as whole numbers": (
        recolour("train/good/rgb/*.png", lambda rgb: rgb // 128),
        "0 and 1 alone",
        "255 times",
    ),
    "1 where nothing was seen": (
        of_clouds(lambda xyz: np.where(xyz == 0, np.float32(1e-3), xyz * [1, 1, 1])),
        "a number for no depth?",
        "0 in the file",
    ),
    "heights": (
        of_clouds(lambda xyz: np.where(xyz, [0, 0, 1.2] + xyz * [1, 1, -1], 0), "*/*/xyz/*.tiff"),
        "lies beyond it",
        "count towards",
    ),
    "inverted masks of objects": (
        lambda f: region_masks(f, lambda dome: ~dome),
        "of what stands on the plane",
        "inverted",
    ),
    "full masks of objects": (
        lambda f: region_masks(f, lambda dome: dome | True),
        "covers all of the image",
        "remove mask/",
    ),
    "half of one scan": (
        of_clouds(
            lambda xyz: np.where(np.arange(64)[:, None] < 34, 0, xyz), "train/good/xyz/000.tiff"
        ),
        "of the pixels have depth, 98%",
        "record it again",
    ),
    "a test image that was trained on, written again": (
        lambda f: Image.open(f / "train/good/rgb/000.png").save(
            f / "test/good/rgb/000.png", compress_level=1
        ),
        "the same image as",
        "must not have seen",
    ),
    "a mask that was a JPEG": (
        lambda f: through_jpeg(f / "test/hole/gt/000.png"),
        "are dark shades",
        "write 255 where it is above 127",
    ),
    "one scan in another unit": (
        of_clouds(lambda xyz: xyz * 10, "test/good/xyz/000.tiff"),
        "m, and 0.597 m in the median sample",
        "another unit",
    ),
    "hardly any depth": (
        of_clouds(
            lambda xyz: xyz * (np.random.default_rng(0).random(xyz.shape[:2]) < 0.1)[..., None]
        ),
        "only 10% of the pixels have depth",
        "record it again",
    ),
    "clouds upside down": (of_clouds(lambda xyz: xyz[::-1]), "y falls", "cloud[::-1]"),
    "clouds of one channel": (
        of_clouds(lambda xyz: np.repeat(xyz[..., 2:], 3, 2)),
        "no cloud of a scene",
        "with its camera",
    ),
    "empty masks of objects": (
        lambda f: outline(f, ("000.png", "001.png", "002.png"), 0),
        "the mask of its object is empty",
        "above 0",
    ),
    "masks of some objects": (
        lambda f: outline(f, ("001.png",)),
        "have no mask of their object",
        "draw them all",
    ),
    "colours in a folder by another name": (
        lambda f: (f / "train/good/rgb").rename(f / "train/good/Color"),
        "not read, as 3 .png files",
        "rename Color to rgb",
    ),
    "training samples called ok": (
        lambda f: (f / "train/good").rename(f / "train/ok"),
        "holds ok and no 'good'",
        "rename ok to good",
    ),
    "a test image that was trained on": (
        lambda f: shutil.copy(f / "train/good/rgb/000.png", f / "test/good/rgb/000.png"),
        "the same image as",
        "must not have seen",
    ),
    "a repeated image": (
        lambda f: shutil.copy(f / "train/good/rgb/000.png", f / "train/good/rgb/002.png"),
        "the same image as",
        "remove all but one",
    ),
    "a black image": (
        lambda f: Image.new("RGB", (64, 48)).save(f / "train/good/rgb/000.png"),
        "has one colour, 0",
        "restore",
    ),
    "only good ones to test": (
        lambda f: shutil.rmtree(f / "test/hole"),
        "all test samples are good",
        "test/<defect>",
    ),
    "only defective ones to test": (
        lambda f: shutil.rmtree(f / "test/good"),
        "all test samples are defective",
        "test/good",
    ),
    "no masks": (
        lambda f: shutil.rmtree(f / "test/hole/gt"),
        "image metrics only",
        "draw masks",
    ),
    "an inverted mask": (
        lambda f: invert(f / "test/hole/gt/000.png"),
        "are marked as defect",
        "inverted",
    ),
    "good by another name": (
        lambda f: (f / "test/good").rename(f / "test/ok"),
        "test/ok counts as a type of defect",
        "rename it to good",
    ),
    "files in a deeper folder": (
        lambda f: shutil.copytree(f / "train/good/rgb", f / "train/good/rgb/s1"),
        "not read, as 3 .png files",
        "move or convert",
    ),
    "files of another format": (
        lambda f: (f / "train/good/rgb/cloud.heic").write_bytes(b""),
        "not read, as 1 .heic files",
        "formats",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_can_be_read_and_is_odd_is_told_with_a_remedy(tmp_path, name):
    plant, problem, todo = FAULTS[name]
    folder = write_category(tmp_path).folder
    plant(folder)
    found = check(open_dataset("auto", tmp_path))
    assert any(problem in p.problem and todo in p.todo for p in found.problems), found.problems


FOLDERS = {
    "a split by another name": (
        lambda f: (f / "validation").rename(f / "val"),
        "val: this folder is not read",
        "rename it to validation",
    ),
    "the training samples by another name": (
        lambda f: (f / "train").rename(f / "Training"),
        "Training is not read",
        "rename it to train",
    ),
    "something else": (lambda f: (f / "raw").mkdir(), "raw: this folder is not read", "move it"),
    "defects among the validation samples": (
        lambda f: shutil.copytree(f / "test/hole", f / "validation/hole"),
        "holds hole beside 'good'",
        "move them to 'test'",
    ),
    "depth beside clouds": (
        lambda f: shutil.copytree(f / "train/good/rgb", f / "train/good/depth"),
        "not read, as 3 .png files",
        "xyz/ is read",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_are_not_what_they_were_meant_for_are_told(tmp_path, name):
    plant, problem, todo = FOLDERS[name]
    category = write_category(tmp_path)
    assert not list(_unused(category))
    plant(category.folder)
    said = [f"{odd.file.name}: {odd.problem} -> {odd.todo}" for odd in _unused(category)]
    said += [str(fault) for split in SPLITS for fault in category.examine(split)[1]]
    assert any(problem in line and todo in line for line in said), said


def test_depth_and_colours_that_differ_from_the_others_are_told(tmp_path):
    folder = write_category(tmp_path).folder
    deepen(folder)
    freeze(folder)
    found = check(open_dataset("auto", tmp_path)).problems
    told = {p.file: f"{p.problem} -> {p.todo}" for p in found}
    dark = told.pop("dome/train/good/rgb/001.png")
    assert "as 10 bits by their largest value are 1 images, as 12 2: they come up to 4" in dark
    assert "the same depth as dome/train/good/xyz/001.tiff, dome/train/good/xyz/002.tiff, with" in (
        told.pop("dome/train/good/xyz/000.tiff")
    )
    assert not [line for line in told.values() if "bits" in line or "the same" in line]


@pytest.mark.parametrize("missing, told", [(0.2, 1), (0.0, 0)])
def test_missing_depth_that_alone_tells_the_defective_is_told(tmp_path, missing, told):
    refs = write_category(tmp_path).samples("test")
    good = [(next(r for r in refs if not r.label), 0.01 * i) for i in range(5)]
    bad = [(next(r for r in refs if r.label), 0.01 * i + missing) for i in range(6)]
    black = picture(np.zeros((48, 64, 3), np.uint8))
    seen = [
        Seen(ref, (48, 64), (), str(i), None, black, None, Reference((48, 64), 1 - share), None)
        for i, (ref, share) in enumerate(good + bad)
    ]
    found = [odd for odd in of_samples(seen, None) if odd.code == "missing_depth_tells"]
    assert len(found) == told
    for odd in found:
        assert "(I-AUROC 1.00); this one has most, 25%" in odd.problem
        assert "baseline/missing" in odd.todo and odd.file == bad[0][0].xyz


def test_the_background_that_auto_takes_is_told_with_its_reason(tmp_path):
    write_tables(tmp_path / "table")
    found = check(open_dataset("auto", tmp_path / "table"))
    assert found.backgrounds["parts"]["chosen"] == "plane"
    assert "object stands on a plane" in found.plain()["backgrounds"]["parts"]["why"]
    assert not [p for p in found.problems if "plane" in p.problem]


def test_scans_of_which_no_plane_can_be_told_are_counted(tmp_path):
    category = write_tables(tmp_path)
    ref = category.samples("train")[0]
    write_tables(tmp_path / "other", flat)
    other = open_dataset("auto", tmp_path / "other").category("parts").samples("train")[0]
    shutil.copy(other.xyz, ref.xyz)
    (told,) = [
        p for p in check(open_dataset("auto", tmp_path)).problems if "uncertain" in p.problem
    ]
    assert "nothing stands on the plane): 1 of 4 in train" in told.problem
    assert "relief data show ROOT" in told.todo and told.file.endswith("train/good/xyz/000.tiff")
