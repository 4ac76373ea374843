"""The guide for newcomers, taken at its word: its code as it stands, and none of ours edited."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.data.synthetic import PRESETS
from harness.data.synthetic.generate import write_category
from harness.engine.code import lay_plugins
from harness.metrics import find, outside
from harness.planning import config
from harness.planning.expand import build
from harness.store import Store
from harness.store.at_work import at_work, lock_of
from harness.store.processes import Process
from methods import plugins
from methods.errors import UserError
from methods.marks import EDITED
from tests.harness.conftest import TINY, planned, run, tiny_store  # noqa: F401

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "harness/README.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE, re.DOTALL))


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No plug-in of another test counts."""
    monkeypatch.setattr(plugins, "_given", ())
    monkeypatch.delenv(plugins.VARIABLE, raising=False)


@pytest.fixture
def files(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def flat(root: Path) -> Path:
    """A category as a flat folder with a table, made of a synthetic one."""
    made = root / "made"
    write_category(made, "cookie", PRESETS["tiny"])
    flat = root / "flat" / "lid"
    flat.mkdir(parents=True)
    rows = []
    for rgb in sorted(made.rglob("rgb/*.png")):
        split, defect = rgb.parts[-4:-2]
        name = f"{split}_{defect}_{rgb.stem}"
        parts = {"image": rgb, "cloud": rgb.parents[1] / "xyz" / f"{rgb.stem}.tiff"}
        parts["mask"] = rgb.parents[1] / "gt" / rgb.name
        row = {"split": split, "defect": defect}
        for part, path in parts.items():
            row[part] = f"{name}_{part}{path.suffix}" if path.exists() else ""
            if path.exists():
                shutil.copy(path, flat / row[part])
        rows.append(row)
    with open(flat / "list.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return flat.parent


def relief(*arguments, cwd, **environment):
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def lay_plugins_of(sources, store):
    """As the driver of a launch on Ray puts them into the store."""
    plugins.use(sources)
    lay_plugins(store.path)
    plugins.use([])


def test_the_guide_has_one_file_of_each_kind():
    plug_ins = {"mine.py", "grey.py", "csv_folder.py", "miss.py"}
    assert set(FILES) == plug_ins | {"run.py", "read.py", "score.py", "arrays.py"}
    assert sum(len(FILES[name].splitlines()) for name in plug_ins) < 130


def test_a_method_a_reader_and_a_metric_from_files_work_together(files, tmp_path):
    names = ("mine.py", "csv_folder.py", "miss.py")
    given = [f"plugins=[{','.join(str(files / name) for name in names)}]"]
    given += ["methods=[mean_depth]", "mean_depth.power=2", "datasets.flat.options.scale=1.0"]
    loaded = config.load(str(TINY), given, data=str(flat(tmp_path)))
    store, plan = Store(tmp_path / "store"), build(loaded)
    plan.record(store)
    assert not run(plan, store).failures
    record = store.result(plan.cells[0]["key"])
    assert 0 <= record.metrics["i_miss"] <= 1 and "i_miss" in record.signatures
    assert record.spec.values["plugin"] == plugins.fingerprint(str(files / "mine.py"))
    view = store.result(record.spec.needs.view)
    assert view.spec.values["reader"] == plugins.fingerprint(str(files / "csv_folder.py"))
    assert "plugin" not in view.spec.values  # its view is ours
    assert "code" not in view.spec.values and EDITED not in record.marks  # and nothing was edited
    plugins.use([])
    outside.join()
    assert find("i_miss") is None  # until the launch's own plug-ins are asked
    lay_plugins_of(loaded.plugins, store)
    (files / "miss.py").unlink()
    assert harness.open_store(store.path).frame()["i_miss"].notna().all()
    plugins.use([])
    outside.join()


def test_the_command_runs_a_file_and_a_package_under_ray_beside_a_broken_one(files, tmp_path):
    """Workers get the file through the store, the package by its entry point."""
    package = tmp_path / "site"
    (package / "grey_method").mkdir(parents=True)
    text = FILES["mine.py"].replace("mean_depth", "mean_grey").replace('["depth"]', '["grey"]')
    text = text.replace("methods.views import Das3dView", "grey_method.view import GreyView")
    text = text.replace("Das3dView(size=64)", "GreyView()").replace(
        "view: Das3dView", "view: GreyView"
    )
    (package / "grey_method/__init__.py").write_text(text)
    (package / "grey_method/view.py").write_text(FILES["grey.py"])
    about = package / "grey_method-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: grey-method\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[relief.methods]\nmean_grey = grey_method:MeanDepth\nbad = grey_method.missing:Bad\n"
        "[relief.views]\ngrey = grey_method.view:GREY\n"
    )
    (files / "broken.py").write_text("int('no number')\n")
    shutil.copy(TINY, tmp_path / "tiny.yaml")
    environment = {"PYTHONPATH": f"{package}{os.pathsep}{ROOT}"}
    chosen = ["tiny.yaml", "methods=[mean_depth,mean_grey]", "--workers", "1", "--store", "store"]
    given = ["--plugin", "broken.py", "--plugin", "mine.py"]
    done = relief("run", *chosen, *given, "--tracking", "none", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(tmp_path / "store")
    cells = {c["method"]: store.result(c["key"]) for c in store.launches()[0]["cells"]}
    assert {name: cell.status for name, cell in cells.items()} == {
        "mean_depth": "done",
        "mean_grey": "done",
    }
    code = plugins.fingerprint(str(files / "mine.py"))
    assert (store.path / "plugins" / code / "mine.py").read_text() == FILES["mine.py"]
    asked = relief("plan", "tiny.yaml", "methods=[bad]", *given, cwd=tmp_path, **environment)
    assert asked.returncode == 2 and "No module named 'grey_method.missing'" in asked.stderr


def test_the_python_of_the_guide_runs_as_it_stands(files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(TINY, "tiny.yaml")
    told = {}
    for name in ("run.py", "read.py", "score.py", "arrays.py"):
        exec(compile(FILES[name], name, "exec"), {"__name__": name})
        told[name] = capsys.readouterr().out
    assert "baseline" in told["run.py"] and "cookie" in told["run.py"]
    assert told["read.py"].startswith("test/")
    assert told["score.py"].startswith("1.00 0.")
    assert told["arrays.py"].startswith("(2, 64, 64) [0.0")


def test_importing_harness_loads_nothing_and_unknown_names_are_told():
    code = (
        "import sys, harness\n"
        "heavy = {'torch', 'numpy', 'pandas', 'ray', 'harness.api'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert harness.open_store.__module__ == 'harness.api' and 'ray' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        harness.runn  # noqa: B018


def test_a_launch_from_python_is_seen_at_work_and_told_of_another_driver(
    tmp_path, monkeypatch, caplog
):
    store, seen = Store(tmp_path), []
    launch_id = planned().launch_id

    def drive(driver, tick):
        seen.append((lock_of(store, launch_id).held, store.recorded(launch_id) is not None))

    monkeypatch.setattr("harness.engine.driver.Driver.run", drive)
    harness.run(str(TINY), store=tmp_path, serial=True)
    assert seen == [(True, True)] and not caplog.text
    assert not lock_of(store, launch_id).held
    with at_work(store, launch_id, pytest.fail):
        harness.run(str(TINY), store=tmp_path, serial=True)
    assert f"{launch_id} is driven by {Process.own()}, since" in caplog.text


def test_a_cell_that_is_not_done_says_why(tiny_store):
    results = harness.open_store(tiny_store.path)
    assert len(results.frame()) == len(results.launch["cells"])
    with pytest.raises(UserError, match="nowhere in .* is not done"):
        results.scores("nowhere")
    with pytest.raises(UserError, match="no launch 'other'"):
        harness.open_store(tiny_store.path, "other")


def test_fit_takes_arrays_of_one_number_of_samples_alone():
    arrays = {"rgb": np.zeros((2, 8, 8, 3), np.uint8), "depth": np.zeros((3, 8, 8), np.float32)}
    with pytest.raises(UserError, match="one row a sample.*'rgb': 2, 'depth': 3"):
        harness.fit("baseline", arrays)
    for wrong, said in (({}, "and no dict"), (arrays["rgb"], "no ndarray"), ({"rgb": 3}, "None")):
        with pytest.raises(UserError, match=said):
            harness.fit("baseline", wrong)
    with pytest.raises(UserError, match="train samples hold none"):
        harness.fit("baseline", {"rgb": arrays["rgb"][:0]})
    with pytest.raises(KeyError, match="the view has no array .*; it has rgb"):
        harness.fit("baseline", {"rgb": arrays["rgb"]}, setting="rgb")


def test_what_a_fitted_method_predicts_is_checked(files):
    line = "return Prediction(maps, maps.amax(dim=(1, 2)))"
    (files / "mine.py").write_text(FILES["mine.py"].replace(line, "return Prediction(maps, maps)"))
    arrays = {"depth": np.zeros((3, 8, 8), np.float32)}
    detector = harness.fit("mean_depth", arrays, plugins=[str(files / "mine.py")])
    with pytest.raises(ValueError, match=r"mean_depth: predict returned .* scores \(3, 8, 8\)"):
        detector.predict(arrays)
