"""Maps from elsewhere become cells like any other: scored, stored, compared and tested."""

import csv
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from harness.cli.app import built
from harness.data import synthetic
from harness.data.datasets import open_dataset
from harness.data.maps import read_map
from harness.data.samples import DataError
from harness.data.synthetic.generate import write_category
from harness.engine import rescore as engine
from harness.engine.executors import InProcess
from harness.metrics import evaluate, get
from harness.planning.config import ConfigError
from harness.planning.imported import Imported, plan
from harness.store import COMMON, PAPER, Store
from harness.store.rescored import scores_of
from reports.forms.export import export_maps
from reports.numbers.frame import results_frame
from reports.numbers.leaderboard import leaderboards
from reports.numbers.stores import gather
from tests.harness.conftest import run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    for name in ("cookie", "tread"):
        spec = synthetic.Spec(
            size=48, categories=(name,), train=2, validation=0, good=3, per_defect=2
        )
        write_category(root, name, spec)
    return root


def samples(data, category):
    return [ref.read() for ref in open_dataset("auto", data).category(category).samples("test")]


@pytest.fixture
def maps(data, tmp_path):
    """A folder of maps that are somewhat right, as TIFF."""
    rng = np.random.default_rng(0)
    for category in ("cookie", "tread"):
        for sample in samples(data, category):
            path = tmp_path / "maps" / category / f"{sample.id}.tiff"
            path.parent.mkdir(parents=True, exist_ok=True)
            found = rng.random(sample.mask.shape) + 0.5 * sample.mask
            tifffile.imwrite(path, found.astype(np.float32))
    return tmp_path / "maps"


def imported(maps, data, store, **more):
    given = Imported(maps, more.pop("name", "mine"), more.pop("setting", "rgb"), str(data), **more)
    planned = plan(given)
    planned.record(store)
    return planned, run(planned, store)


def test_they_are_scored_as_they_are_in_both_protocols(maps, data, tmp_path):
    store = Store(tmp_path / "store")
    planned, summary = imported(maps, data, store)
    assert not summary.failures and len(planned.cells) == 2
    for cell in planned.cells:
        record, known = store.finished(cell["key"]), samples(data, cell["category"])
        own = [tifffile.imread(maps / cell["category"] / f"{s.id}.tiff") for s in known]
        wanted = evaluate(own, [s.mask for s in known], [m.max() for m in own],
                          [s.label for s in known])  # fmt: skip
        for protocol, resolution in ((COMMON, "res:sensor"), (PAPER, "res:48x48")):
            found = scores_of(record, protocol)
            assert found.metrics == pytest.approx(wanted)
            assert f"|{resolution}|" in found.signatures["p_auroc"]
        assert record.marks == ["imported maps"] and "maximum" in record.notes["image_score"]
        assert np.array_equal(record.maps().values, np.stack(own))
        samples_of = {"train": 2, "validation": 0, "test": len(own)}
        made = {"made": True, "files": [".png", ".tiff"], "samples": samples_of}
        assert record.data == made | {"sizes": [[48, 48]]}
        assert [str(v) for v in record.scores()["id"].to_pylist()] == [s.id for s in known]


def test_doing_it_twice_changes_nothing_and_other_maps_are_another_cell(maps, data, tmp_path):
    store = Store(tmp_path / "store")
    first, _ = imported(maps, data, store)
    before = {p: p.stat().st_mtime_ns for p in store.path.rglob("*") if "jobs" in p.parts}
    again, summary = imported(maps, data, store)
    assert not again.pending(store) and not summary.counts
    assert before == {p: p.stat().st_mtime_ns for p in store.path.rglob("*") if "jobs" in p.parts}
    path = next(maps.rglob("good/000.tiff"))
    tifffile.imwrite(path, tifffile.imread(path) + 1)
    other, _ = imported(maps, data, store)
    assert {c["key"] for c in first.cells} != {c["key"] for c in other.cells}


@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif"])
def test_other_forms_of_files_give_the_same_scores(maps, data, tmp_path, suffix):
    for path in list(maps.rglob("*.tiff")):
        values = np.round(tifffile.imread(path) * 100).astype(np.uint8)
        tifffile.imwrite(path, values.astype(np.float32))
    one, _ = imported(maps, data, Store(tmp_path / "one"))
    for path in list(maps.rglob("*.tiff")):
        values, to = tifffile.imread(path), path.with_suffix(suffix)
        path.unlink()
        if suffix == ".npy":
            np.save(to, values.astype(np.float64))
        elif suffix == ".png":
            Image.fromarray(values.astype(np.uint8)).save(to)
        else:
            tifffile.imwrite(to, values[None].astype(np.float16))
    two, summary = imported(maps, data, Store(tmp_path / "two"))
    assert not summary.failures
    for a, b in zip(one.cells, two.cells):
        first = Store(tmp_path / "one").finished(a["key"]).metrics
        assert first == Store(tmp_path / "two").finished(b["key"]).metrics


def test_the_same_maps_under_other_names_are_launches_of_their_own(maps, data, tmp_path):
    store = Store(tmp_path / "store")
    imported(maps, data, store)
    imported(maps, data, store, dataset="mine too")
    imported(maps, data, store, variant="old")
    assert len(store.launches()) == 3
    names = [(one["cells"][0]["dataset"], one["cells"][0]["variant"]) for one in store.launches()]
    own = data.name
    assert set(names) == {(own, ""), ("mine too", ""), (own, "old")}


def command(maps, data, store, **more):
    given = {"--setting": "rgb", "--data": data, "--store": store.path, "--tracking": "none"}
    options = [str(part) for pair in (given | more).items() for part in pair]
    return CliRunner().invoke(built(), ["import", str(maps), "--serial", *options])


def test_an_import_that_fails_leaves_no_launch_and_is_not_offered(maps, data, tmp_path):
    store = Store(tmp_path / "store")
    shutil.rmtree(maps / "tread")
    path = maps / "cookie/test/good/000.tiff"
    right = path.read_bytes()
    tifffile.imwrite(path, np.full((48, 48), np.nan, np.float32))
    failed = command(maps, data, store, **{"--name": "bad"})
    assert failed.exit_code == 1 and "good/000.tiff has 2304 values" in failed.output
    assert not store.launches()
    path.write_bytes(right)
    alone = command(maps, data, store, **{"--name": "one"})
    assert alone.exit_code == 0 and "Beside others" not in alone.output, alone.output
    second = command(maps, data, store, **{"--name": "two"})
    (one, two) = (launch["id"] for launch in store.launches())
    assert f"relief report --launch {one} --launch {two}" in second.output.replace("\n", "")
    third = command(maps, data, store, **{"--name": "three", "--dataset": "elsewhere"})
    assert third.exit_code == 0 and "Beside others" not in third.output


def test_missing_and_extra_maps_are_named_before_anything_runs(maps, data):
    lost = next(maps.rglob("cookie/test/good/001.tiff"))
    lost.unlink()
    (maps / "cookie" / "test" / "good" / "077.tiff").write_bytes(b"x")
    with pytest.raises(ConfigError) as told:
        plan(Imported(maps, "mine", "rgb", str(data)))
    assert "good/001.tiff missing" in str(told.value) and "077.tiff of no test" in str(told.value)


def test_all_maps_of_other_sizes_or_without_numbers_are_named(maps, data, tmp_path):
    small, torn = (maps / "cookie" / "test" / "good" / name for name in ("000.tiff", "002.tiff"))
    tifffile.imwrite(small, np.zeros((24, 24), np.float32))
    values = tifffile.imread(torn)
    values[3, 4] = np.nan
    tifffile.imwrite(torn, values)
    store = Store(tmp_path / "store")
    planned, summary = imported(maps, data, store)
    (failure,) = summary.failures
    assert "good/000.tiff is 24 x 24 px, its image 48 x 48" in failure.reason
    assert "good/002.tiff has 1 values that are NaN or infinite" in failure.reason
    assert [store.done(cell["key"]) for cell in planned.cells] == [False, True]


def test_image_scores_of_a_file_are_taken_and_lacking_ones_named(maps, data, tmp_path):
    path = tmp_path / "scores.csv"
    rows = [
        (category, sample.id, float(sample.label))
        for category in ("cookie", "tread")
        for sample in samples(data, category)
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("category", "id", "score"), *rows])
    store = Store(tmp_path / "store")
    planned, _ = imported(maps, data, store, scores=path)
    assert all(store.finished(c["key"]).metrics["i_auroc"] == 1.0 for c in planned.cells)
    first, id, _ = rows[0]
    for wrong, said in (
        (rows[1:], f"no score of {first}/{id}; write one"),
        ([*rows, rows[0]], f"line {len(rows) + 2}: {first}/{id} is there already"),
        ([*rows, (first, "test/hole/999", 1)], f"{first}/test/hole/999, of which there is no test"),
        (
            [*rows, ("lid", "test/hole/000", 1)],
            "has scores of lid, which .* has not; it has",
        ),
        ([(first, id, "nan"), *rows[1:]], "line 2: score 'nan' is no finite number"),
        ([(first, id, 1e39), *rows[1:]], "line 2: score '1e[+]39' is no finite number"),
        ([(first, id, "high"), *rows[1:]], "line 2: score 'high' is no finite number"),
    ):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("category", "id", "score"), *wrong])
        with pytest.raises((ConfigError, DataError), match=f"scores.csv.*{said}"):
            plan(Imported(maps, "mine", "rgb", str(data), scores=path))
    path.write_bytes("category,id,score\nk\u00fcgel,test/hole/000,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="scores.csv is no UTF-8 text"):
        plan(Imported(maps, "mine", "rgb", str(data), scores=path))


def test_a_picture_of_a_map_in_colours_of_a_palette_is_no_map(tmp_path):
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    for image, said in ((grey.convert("RGB").quantize(8), "colours of a palette"), (grey, None)):
        image.save(tmp_path / "000.png")
        if said is None:
            assert read_map(tmp_path / "000.png", (8, 8)).max() == 63
            continue
        with pytest.raises(DataError, match=f"000.png.*{said}"):
            read_map(tmp_path / "000.png", (8, 8))


def test_names_and_folders_that_cannot_be_meant_are_refused(maps, data, tmp_path):
    with pytest.raises(ConfigError, match="--variant"):
        plan(Imported(maps, "das3d", "rgb", str(data)))
    for name in ("a/b", "my method", ""):
        with pytest.raises(ConfigError, match="is no name for a method: letters, digits, _ . -"):
            plan(Imported(maps, name, "rgb", str(data)))
    with pytest.raises(ConfigError, match="unknown setting"):
        plan(Imported(maps, "mine", "lidar", str(data)))
    with pytest.raises(ConfigError, match="no folder"):
        plan(Imported(tmp_path / "none", "mine", "rgb", str(data)))
    (maps / "tread").rename(maps / "threads")
    with pytest.raises(ConfigError, match="has maps of threads"):
        plan(Imported(maps, "mine", "rgb", str(data)))


def test_they_stand_and_are_tested_in_one_table_with_others(maps, data, tmp_path):
    store = Store(tmp_path / "store")
    imported(maps, data, store)
    for path in maps.rglob("*.tiff"):
        tifffile.imwrite(path, -tifffile.imread(path))
    imported(maps, data, store, name="das3d", variant="authors")
    both = gather([(store, launch) for launch in store.launches()])
    board = next(b for b in leaderboards(results_frame(*both)) if b.metric == "p_auroc")
    assert [(row.method, row.variant, row.rank) for row in board.rows] == [
        ("mine", "", 1),
        ("das3d", "authors", 2),
    ]
    assert all("imported maps" in row.marks for row in board.rows)


def test_they_are_scored_again_and_exported_like_any_cell(maps, data, tmp_path):
    store = Store(tmp_path / "store")
    planned, _ = imported(maps, data, store)
    launch = planned.launch()
    records = [store.finished(cell["key"]) for cell in planned.cells]
    jobs = engine.jobs_for(store, launch, records, [get("aupro_0.15")], [COMMON, PAPER])
    assert {one.status for one in engine.rescore(store, jobs, InProcess(engine.rescore_cell))} == {
        "done"
    }
    for record in records:
        both = [scores_of(record, protocol) for protocol in (COMMON, PAPER)]
        assert both[0].metrics["aupro_0.15"] == both[1].metrics["aupro_0.15"]
        assert "|res:48x48|" in both[1].signatures["aupro_0.15"]
    (folder,) = export_maps(store, launch, tmp_path / "out", size="original").folders
    for path in maps.rglob("*.tiff"):
        again = tifffile.imread(folder / "maps" / path.relative_to(maps))
        assert np.array_equal(again, tifffile.imread(path))
