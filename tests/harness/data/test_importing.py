"""What tools write becomes the layout; what is mended is a copy."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from harness.data.check import check
from harness.data.content import content
from harness.data.datasets import open_dataset
from harness.data.fix import fix
from harness.data.images import read_mask
from harness.data.importing import find, unused, write
from harness.data.importing.cameras import bends, find_camera, intrinsics, read_camera
from harness.data.samples import DataError, split_meant
from methods.errors import UserError
from tests.harness.cli.test_cli import relief
from tests.harness.data.scans import scan, write_category
from tests.harness.data.test_folder import write_depth_category

OURS = {"fx": 500.0, "fy": 501.0, "cx": 31.5, "cy": 23.5}


def frame(seed=0):
    rgb, xyz, mask = scan(seed=seed)
    return Image.fromarray(rgb), Image.fromarray((xyz[..., 2] * 1000).astype(np.uint16)), mask


def put(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def imported(root, out, table=None):
    frames, left, sheets = find(root, table)
    file = find_camera(sheets)
    counts = write(frames, out, "part", read_camera(file) if file else None)
    return dict(counts), left


NAMES = {
    "RealSense Viewer": ("{i}_Color.png", "{i}_Depth.png"),
    "Azure Kinect": ("color/{i:06}.png", "depth/{i:06}.png"),
    "Open3D": ("rgb/frame_{i}.jpg", "depth/frame_{i}.png"),
    "7-Scenes": ("frame-{i:06}.color.png", "frame-{i:06}.depth.png"),
    "one folder": ("rgb{i}.png", "depth{i}.png"),
}


@pytest.mark.parametrize("tool", NAMES)
def test_frames_with_their_camera_become_the_layout_by_links(tmp_path, tool):
    for i in range(3):
        for name, image in zip(NAMES[tool], frame(i)):
            put(tmp_path / "rec" / name.format(i=i + 9), image)  # 9, 10, 11
    (tmp_path / "rec/intrinsics.json").write_text(json.dumps({"color": OURS, "serial": "x"}))
    counts, left = imported(tmp_path / "rec", tmp_path / "out")
    assert counts == {"train/good": 3} and not left
    refs = open_dataset("auto", tmp_path / "out").category("part").samples("train")
    assert len(refs) == 3 and 0.5 < np.median(refs[0].read().xyz[..., 2]) < 0.7
    rows = list(csv.DictReader((tmp_path / "out/part/import.csv").open()))
    first = next(row for row in rows if row["file"].startswith("train/good/rgb/000"))
    assert "9" in first["from"]
    assert (tmp_path / "out/part" / first["file"]).samefile(first["from"])


def test_folders_tell_splits_and_defects(tmp_path):
    for place in ("train/good", "test/ok", "test/scratch"):
        rgb, depth, mask = frame()
        put(tmp_path / "rec" / place / "rgb/1.png", rgb)
        put(tmp_path / "rec" / place / "depth/1.png", depth)
        if "scratch" in place:
            put(tmp_path / "rec" / place / "mask/1.png", Image.fromarray(mask))
    (tmp_path / "rec/camera.json").write_text(json.dumps(OURS))
    counts, _ = imported(tmp_path / "rec", tmp_path / "out")
    assert counts == {"train/good": 1, "test/good": 1, "test/scratch": 1}
    assert check(open_dataset("auto", tmp_path / "out")).errors == 0


OF_SPLITS = {  # of splits, as tools and people write them
    "train": ("train", "training", "Train"),
    "validation": ("validation", "val", "valid", "eval", "VAL"),
    "test": ("test", "testing", "Testing"),
}


@pytest.mark.parametrize("by", ["folder", "table"])
def test_splits_go_by_the_same_names_in_folders_and_in_tables(tmp_path, by):
    names = [name for given in OF_SPLITS.values() for name in given]
    rows = ["image,depth,split"]
    for i, name in enumerate(names):
        folder = tmp_path / "rec" / (f"{name}/good" if by == "folder" else "all")
        for part, image in zip(("rgb", "depth"), frame(i)):
            put(folder / part / f"{i}.png", image)
        rows.append(f"all/rgb/{i}.png,all/depth/{i}.png,{name}")
    if by == "table":
        (tmp_path / "rec/list.csv").write_text("\n".join(rows))
    (tmp_path / "rec/camera.json").write_text(json.dumps(OURS))
    counts, left = imported(tmp_path / "rec", tmp_path / "out")
    assert counts == {f"{split}/good": len(of) for split, of in OF_SPLITS.items()} and not left
    assert all(split_meant(name) == split for split, of in OF_SPLITS.items() for name in of)


def test_a_table_tells_all_and_what_it_names_in_vain_is_told(tmp_path):
    for i in range(2):
        for name, image in zip(("a{i}.png", "b{i}.png"), frame(i)):
            put(tmp_path / "rec" / name.format(i=i), image)
    put(tmp_path / "rec/m1.png", Image.fromarray(frame()[2]))
    (tmp_path / "rec/camera.json").write_text(json.dumps(OURS))
    (tmp_path / "rec/list.csv").write_text(
        "\ufeffimage,depth,split,label,mask\na0.png,b0.png,train,ok,\n"
        "a1.png,b1.png,test,dent,m1.png\na2.png,b2.png,train,ok,\n",
        encoding="utf-8",
    )
    counts, left = imported(tmp_path / "rec", tmp_path / "out")
    assert counts == {"train/good": 1, "test/dent": 1}
    assert [one.file.name for one in left] == ["a2.png"] and "line 4" in left[0].why
    (tmp_path / "rec/list.csv").write_text("image,split\na0.png,train\n")
    with pytest.raises(DataError, match="no column for depth; it has image, split"):
        find(tmp_path / "rec")


@pytest.mark.parametrize("tool", ["labelme", "coco"])
def test_outlines_become_masks_of_defects(tmp_path, tool):
    for i in range(2):
        for name, image in zip(("color_{i}.png", "depth_{i}.png"), frame(i)):
            put(tmp_path / "rec" / name.format(i=i), image)
    (tmp_path / "rec/camera.json").write_text(json.dumps(OURS))
    square = [[10, 10], [19, 10], [19, 19], [10, 19]]
    if tool == "labelme":
        shapes = [{"label": "dent", "points": square, "shape_type": "polygon"}]
        given = {"shapes": shapes, "imagePath": "..\\x\\color_1.png"}
        given |= {"imageHeight": 48, "imageWidth": 64}
    else:
        given = {
            "images": [{"id": 7, "file_name": "x/color_1.png", "height": 48, "width": 64}],
            "categories": [{"id": 1, "name": "dent"}],
            "annotations": [
                {"image_id": 7, "category_id": 1, "segmentation": [list(np.ravel(square))]}
            ],
        }
        given = json.loads(json.dumps(given, default=int))
    (tmp_path / "rec/notes.json").write_text(json.dumps(given))
    counts, _ = imported(tmp_path / "rec", tmp_path / "out")
    assert counts == {"train/good": 1, "test/dent": 1}
    sample = open_dataset("auto", tmp_path / "out").category("part").samples("test")[0].read()
    assert sample.mask.sum() == 100 and sample.mask[10:20, 10:20].all()


def test_clouds_need_no_camera_and_lone_files_are_told(tmp_path):
    rgb, xyz, _ = scan()
    put(tmp_path / "rec/part_01.png", Image.fromarray(rgb))
    header = (
        "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 64\nHEIGHT 48\n"
        "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 3072\nDATA binary\n"
    )
    (tmp_path / "rec/part_01.pcd").write_bytes(header.encode() + xyz.tobytes())
    put(tmp_path / "rec/part_02.png", Image.fromarray(rgb))
    counts, left = imported(tmp_path / "rec", tmp_path / "out")
    assert counts == {"train/good": 1} and "no depth or cloud to it" in left[0].why
    ref = open_dataset("auto", tmp_path / "out").category("part").samples("train")[0]
    assert np.array_equal(ref.read().xyz, xyz)


def test_depth_without_a_camera_is_refused_with_what_to_give(tmp_path):
    for name, image in zip(("color_1.png", "depth_1.png"), frame()):
        put(tmp_path / "rec" / name, image)
    with pytest.raises(DataError, match="--camera FILE"):
        imported(tmp_path / "rec", tmp_path / "out")
    assert not (tmp_path / "out/part").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"fx": 500, "fy": 501, "ppx": 31.5, "ppy": 23.5, "coeffs": [0] * 5},  # RealSense
        {"K": [500, 0, 31.5, 0, 501, 23.5, 0, 0, 1], "D": []},  # ROS
        {"width": 64, "height": 48, "intrinsic_matrix": [500, 0, 0, 0, 501, 0, 31.5, 23.5, 1]},
        {"depth": {"fx": 1, "fy": 1, "cx": 1, "cy": 1}, "rgb": OURS},
        {"cameras": [{"intrinsics": {"parameters": OURS}}]},
    ],
)
def test_intrinsics_are_read_in_the_forms_of_drivers(given):
    found = intrinsics(given)
    assert {name: found[name] for name in OURS} == OURS


def recorded(folder, names, count=2):
    for i in range(count):
        for name, image in zip(names, frame(i)):
            put(folder / name.format(i=i), image)
    (folder / "camera.json").write_text(json.dumps(OURS))


@pytest.mark.parametrize(
    "names",
    [
        ("D435_Color_{i}.png", "D435_Depth_{i}.png"),
        ("image_rgb_{i}.png", "image_depth_{i}.png"),
    ],
)
def test_telling_words_count_before_common_ones_and_letters(tmp_path, names):
    recorded(tmp_path / "rec", names)
    counts, left = imported(tmp_path / "rec", tmp_path / "out")
    assert counts == {"train/good": 2} and not left


def test_the_viewers_tables_about_frames_are_no_tables_of_samples(tmp_path):
    recorded(tmp_path / "rec", ("{i}_Color.png", "{i}_Depth.png"))
    for name in ("0_Color_metadata.csv", "0_Depth_metadata.csv"):
        (tmp_path / "rec" / name).write_text("Frame Info:\nType,Depth\n")
    counts, left = imported(tmp_path / "rec", tmp_path / "out")
    assert counts == {"train/good": 2} and len(left) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_table_of_a_spreadsheet_is_read_with_its_words(tmp_path, encoding):
    recorded(tmp_path / "rec", ("s/a{i}.png", "s/b{i}.png"), 6)
    rows = [
        "image;depth;split;anomaly;mask",
        "s\\a0.png;s\\b0.png;train;False;",
        "s/a1.png;s/b1.png;test;no;",
        "s/a2.png;s/b2.png;test;True;",
        "s/a3.png;s/b3.png;holdout;no;",
        "s/a4.png;s/b4.png;train;dent;",
        "s/a5.png;s/b5.png;test;dent;gone.png",
        "s/a1.png;s/b1.png;test;no;",
        "s/a5.png",
    ]
    (tmp_path / "rec/list.csv").write_bytes("\n".join(rows).encode(encoding))
    counts, left = imported(tmp_path / "rec", tmp_path / "out")
    assert counts == {"train/good": 1, "test/good": 1, "test/defect": 1}
    why = "; ".join(one.why for one in left)
    for said in ("no split 'holdout'", "normal samples only", "repeats line 3", "has no depth"):
        assert said in why
    assert any(one.file.name == "gone.png" for one in left)


def test_a_table_in_another_encoding_is_named(tmp_path):
    recorded(tmp_path / "rec", ("a{i}.png", "b{i}.png"))
    (tmp_path / "l.csv").write_bytes("image,depth\na0.png,größe.png\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"l\.csv is no text in UTF-8.*save it as UTF-8"):
        find(tmp_path / "rec", tmp_path / "l.csv")


def test_outlines_go_to_the_image_beside_them_and_never_to_a_namesake(tmp_path):
    squares = {"scratch": [10, 10, 19, 19], "dent": [40, 30, 49, 39]}
    for defect, (x0, y0, x1, y1) in squares.items():
        recorded(tmp_path / "rec" / defect, ("color_{i}.png", "depth_{i}.png"), 1)
        shape = {"label": defect, "points": [[x0, y0], [x1, y1]], "shape_type": "rectangle"}
        given = {"shapes": [shape], "imagePath": "color_0.png"}
        given |= {"imageHeight": 48, "imageWidth": 64}
        (tmp_path / "rec" / defect / "color_0.json").write_text(json.dumps(given))
    for name in ("color_0", "color_77"):  # of which there are two, and none
        (tmp_path / f"rec/{name}.json").write_text(
            json.dumps({**given, "imagePath": f"{name}.png"})
        )
    _, left = imported(tmp_path / "rec", tmp_path / "out")
    for defect, (x0, y0, x1, y1) in squares.items():
        mask = np.array(Image.open(tmp_path / f"out/part/test/{defect}/gt/000.png")) > 0
        assert mask[y0 : y1 + 1, x0 : x1 + 1].all() and mask.sum() == 100
    assert {one.file.name for one in left} == {"color_0.json", "color_77.json"}


def test_linked_folders_are_part_of_a_recording_also_in_a_circle(tmp_path):
    recorded(tmp_path / "far", ("color_{i}.png", "depth_{i}.png"))
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec/day1").symlink_to(tmp_path / "far")
    (tmp_path / "far/again").symlink_to(tmp_path / "rec")
    counts, _ = imported(tmp_path / "rec", tmp_path / "out")
    assert sum(counts.values()) == 2


def test_an_import_that_fails_leaves_nothing_behind(tmp_path):
    recorded(tmp_path / "rec", ("color_{i}.png", "depth_{i}.png"))
    put(tmp_path / "rec/depth_0.png", frame()[0])  # coloured, as viewers save it
    with pytest.raises(DataError, match="16-bit grey"):
        imported(tmp_path / "rec", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "..", ".x", "a\n"])
def test_a_category_is_a_folder_of_its_dataset(tmp_path, name):
    recorded(tmp_path / "rec", ("color_{i}.png", "depth_{i}.png"))
    frames, _, sheets = find(tmp_path / "rec")
    with pytest.raises(UserError, match="no name of a folder"):
        write(frames, tmp_path / "out", name, read_camera(sheets[0]))


# Mended copies


def test_a_mended_copy_has_no_faults_and_the_original_is_as_it_was(tmp_path):
    category = write_category(tmp_path / "data")
    folder = category.folder
    exif = Image.Exif()
    exif[0x0112] = 3
    rgb = folder / "train/good/rgb/000.png"
    Image.open(rgb).rotate(180).save(rgb.with_suffix(".jpg"), exif=exif, quality=95)
    rgb.unlink()
    (folder / "test/good").rename(folder / "test/GOOD")
    gt = folder / "test/hole/gt"
    Image.fromarray((np.array(Image.open(gt / "000.png")) > 0).astype(np.uint8) * 250).save(
        gt / "000.jpg"
    )
    (gt / "000.png").unlink()
    (gt / "001.png").rename(gt / "001_mask.png")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    said = {one.file: one.what for one in fix(tmp_path / "data", tmp_path / "new")}
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert "turned as its EXIF says" in said["dome/train/good/rgb/000.jpg"]
    assert "0 and 255" in said["dome/test/hole/gt/000.jpg"]
    found = check(open_dataset("auto", tmp_path / "new"))
    assert found.errors == 0 and found.counts["dome"]["test"] == {"good": 1, "hole": 2}
    sound = "dome/train/good/rgb/001.png"
    assert (tmp_path / "data" / sound).samefile(tmp_path / "new" / sound)


def test_names_of_parts_and_shades_of_masks_are_mended(tmp_path):
    folder = write_category(tmp_path / "data").folder
    (folder / "train/good/rgb").rename(folder / "train/good/RGB")
    (folder / "test/hole/gt").rename(folder / "test/hole/ground_truth")
    mask = folder / "test/hole/ground_truth/000.png"
    bright = np.array(Image.open(mask)) > 0
    shades = np.arange(bright.size).reshape(bright.shape) % 100
    Image.fromarray(np.where(bright, 255, shades).astype(np.uint8)).save(mask)
    said = {one.file: one.what for one in fix(tmp_path / "data", tmp_path / "new")}
    assert said["dome/train/good/RGB/000.png"] == "RGB renamed to rgb"
    assert "shades up to 127" in said["dome/test/hole/ground_truth/000.png"]
    found = check(open_dataset("auto", tmp_path / "new"))
    assert not found.problems
    assert np.array_equal(read_mask(tmp_path / "new/dome/test/hole/gt/000.png"), bright)


def test_units_per_metre_are_understood_in_the_form_of_others():
    assert intrinsics(OURS | {"depth_scale": 1000})["depth_scale"] == 0.001
    assert intrinsics(OURS | {"depth_scale": 1})["depth_scale"] == 1


def test_a_camera_that_cannot_be_read_is_named(tmp_path, capsys, monkeypatch):
    colour, depth, _ = frame()
    put(tmp_path / "from/color/1.png", colour)
    put(tmp_path / "from/depth/1.png", depth)
    (tmp_path / "from/camera.json").write_text(f"// mine\n{json.dumps(OURS)}")
    code, _, said = relief(
        capsys, monkeypatch, "data", "import", tmp_path / "from", tmp_path / "to"
    )
    assert code == 2 and "camera.json" in said and "no comments" in said


def test_swapped_bytes_of_depth_are_put_right_in_the_copy(tmp_path):
    category = write_depth_category(tmp_path / "data")
    ref = category.samples("train")[0]
    right = np.array(Image.open(ref.xyz))
    Image.fromarray(right.byteswap()).save(ref.xyz)
    assert any("swapped" in one.what for one in fix(tmp_path / "data", tmp_path / "new"))
    assert np.array_equal(
        np.array(Image.open(tmp_path / "new/part/train/good/depth" / ref.xyz.name)), right
    )


def test_a_copy_is_not_written_over_or_into_anything(tmp_path):
    write_category(tmp_path / "data")
    with pytest.raises(UserError, match="is not empty"):
        fix(tmp_path / "data", tmp_path / "data")
    with pytest.raises(UserError, match="lies within"):
        fix(tmp_path / "data", tmp_path / "data/new")


def test_two_files_of_one_name_in_the_copy_leave_both_originals_as_they_were(tmp_path):
    folder = write_category(tmp_path / "data").folder
    for part, suffix in (("rgb", "png"), ("xyz", "tiff")):
        put_beside = folder / f"test/Good/{part}/000.{suffix}"
        put_beside.parent.mkdir(parents=True)
        put_beside.write_bytes((folder / f"train/good/{part}/000.{suffix}").read_bytes())
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    said = {one.file: one.what for one in fix(tmp_path / "data", tmp_path / "new")}
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert "left out" in said["dome/test/Good/rgb/000.png"]
    assert "dome/test/good/rgb/000.png" not in said
    kept = tmp_path / "new/dome/test/good/rgb/000.png"
    assert kept.samefile(folder / "test/good/rgb/000.png")


def test_a_mended_copy_has_what_links_lead_to(tmp_path):
    folder = write_category(tmp_path / "far").folder
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dome").symlink_to(folder)
    fix(tmp_path / "data", tmp_path / "new")
    assert check(open_dataset("auto", tmp_path / "new")).counts["dome"]["train"] == {"good": 3}


def test_a_pipe_among_the_files_is_named_and_not_waited_for(tmp_path):
    folder = write_category(tmp_path / "data").folder
    path = folder / "train/good/rgb/000.png"
    path.unlink()
    os.mkfifo(path)
    category = open_dataset("auto", tmp_path / "data").category("dome")
    assert content(category)  # which reads all files
    found = check(open_dataset("auto", tmp_path / "data"))
    assert found.errors == 1 and "pipe" in found.problems[0].problem


VIEWER = ("{i}_Color.png", "{i}_Depth.png")
SQUARE = [[9, 9], [20, 9], [20, 20]]


def coco(**changes):
    """Frame 2 has a defect, of which a few words are changed."""
    images = [{"id": i, "file_name": f"{i}_Color.png", "height": 48, "width": 64} for i in range(3)]
    one = {"id": 7, "image_id": 2, "category_id": 1, "segmentation": [[9, 9, 20, 9, 20, 20]]}
    given = {"categories": [{"id": 1, "name": "dent"}], "images": images, "annotations": [one]}
    more = changes.pop("more", {})
    return given | {"images": images + [more] if more else images, "annotations": [one | changes]}


def labelme(**changes):
    shape = {"points": SQUARE, "label": "dent", "shape_type": "polygon"}
    given = {"imagePath": "2_Color.png", "imageHeight": 48, "imageWidth": 64, "shapes": [shape]}
    return {key: value for key, value in (given | changes).items() if value is not None}


UNCLEAR = {  # outlines whose image or place cannot be told -> what says so
    "an image that is not listed": (coco(image_id=99), "image_id 99"),
    "one id for two images": (
        coco(more=coco()["images"][2] | {"file_name": "0_Color.png"}),
        "id 2",
    ),
    "one file listed twice": (coco(more=coco()["images"][2] | {"id": 9}), "2_Color.png twice"),
    "a box and no outline": (coco(segmentation=[]), "no outline"),
    "no number in COCO": (coco(segmentation=[[9, 9, float("nan"), 9, 20, 20]]), "finite"),
    "no number in LabelMe": (
        labelme(shapes=[{"points": [[9, 9], [float("nan"), 9], [20, 20]], "label": "dent"}]),
        "finite",
    ),
    "no image in LabelMe": (labelme(imagePath=None), "imagePath"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_outlines_that_fit_no_image_stop_the_import_and_train_on_no_defect(tmp_path, case):
    given, word = UNCLEAR[case]
    recorded(tmp_path / "rec", VIEWER)
    (tmp_path / "rec/outlines.json").write_text(json.dumps(given))
    with pytest.raises(DataError, match=word) as told:
        imported(tmp_path / "rec", tmp_path / "out")
    assert "outlines.json" in str(told.value) and not (tmp_path / "out").exists()


def test_a_json_file_that_nothing_is_taken_from_is_named(tmp_path):
    recorded(tmp_path / "rec", VIEWER)
    (tmp_path / "rec/2_Color.json").write_text("[1, 2]")
    (tmp_path / "rec/other.json").write_text(json.dumps(OURS | {"fx": 700.0}))
    (tmp_path / "rec/same.json").write_text(json.dumps(OURS))
    _, left, sheets = find(tmp_path / "rec")
    left = {one.file.name: one.why for one in [*left, *unused(sheets, find_camera(sheets))]}
    assert set(left) == {"2_Color.json", "other.json"}  # a copy of the camera says nothing else
    assert "--camera" in left["other.json"] and "neither" in left["2_Color.json"]


@pytest.mark.parametrize(
    "given",
    [
        {"coeffs": [0.1, -0.2, 0, 0, 0]},
        {"D": [0.1, 0, 0, 0, 0]},
        {"distortion_coefficients": {"rows": 1, "data": [0.1, 0]}},
        {"k1": 0.1},
    ],
)
def test_a_lens_that_bends_is_told_as_nothing_straightens_its_images(given):
    assert bends(OURS | given) and bends({"color": OURS | given})
    assert not bends(OURS | {"coeffs": [0.0] * 5, "model": "none"})
