"""Plug-ins: what they may break, what they change, and how they come to workers."""

import contextlib
import io
import os
import re
import shutil
import signal
import sys
import types

import numpy as np
import pytest
import torch
import typer

import methods
from harness.cli.errors import describe, plugged
from harness.cli.launch import exit_with
from harness.data import datasets
from harness.data.blind import blind
from harness.data.samples import paths_of
from harness.data.views import build, registry
from harness.engine.code import PLUGINS, admit_plugins, lay_plugins
from harness.engine.evaluation import predict_all
from harness.engine.job import run_job
from harness.engine.outcomes import REFUSED
from harness.metrics import find, known_metrics
from harness.metrics.outside import join
from harness.planning.config import ConfigError
from harness.store import Store
from methods import plugins
from methods.contract import Method, Prediction, Samples
from methods.errors import UserError
from methods.fitness import unfit
from methods.plugins import PluginError
from methods.views import PlainView
from tests.harness.conftest import planned, run
from tests.test_bring_your_own import FILES, alone  # noqa: F401


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(FILES["mine.py"])
    plugins.use([str(file)])
    return file


def keys(*overrides):
    return {job.title: key for key, job in planned(*overrides).jobs.items()}


def test_no_key_of_ours_knows_of_plug_ins(mine):
    with_it = keys()
    plugins.use([])
    assert keys() == with_it


def test_changed_code_of_a_plug_in_changes_the_keys_of_what_it_computes_alone(mine):
    one = keys("methods=[mean_depth,das3d]")
    mine.write_text(FILES["mine.py"] + "\n# another comment\n")
    other = keys("methods=[mean_depth,das3d]")
    differing = {title for title in one if one[title] != other[title]}
    assert differing == {"mean_depth rgb+3d synthetic cookie 0"}


def test_an_edit_of_the_same_length_in_the_same_second_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file, seen = tmp_path / "metric.py", []
    for value in ("1", "2"):
        file.write_text(
            "from harness.metrics import Metric\n\n\ndef mine(scored):\n    return "
            f"{value}\n\n\nMINE = Metric('i_mine', 'mine', mine, needs='scores')\n"
        )
        os.utime(file, (1e9, 1e9))
        plugins.use([str(file)])
        join()
        seen.append(find("i_mine").formula(None))
    assert seen == [1, 2]


def test_what_is_broken_breaks_what_asks_for_it_alone(mine, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def parsed():\n    return int('no number')\n\n\nVALUE = parsed()\n")
    plugins.use([str(broken), str(mine)])
    assert planned("methods=[das3d,mean_depth]").jobs
    with pytest.raises(PluginError) as raised:
        planned("methods=[its_own]")
    said = describe(raised.value).text
    assert said.startswith(f"plug-in {broken} cannot be loaded: ValueError: invalid literal")
    assert f'File "{broken}", line 5' in said and "return int('no number')" in said
    assert "importlib" not in said  # from its own code on
    assert [one.source for one in plugins.broken()] == [str(broken)]


@pytest.mark.parametrize(
    "line", ["import sys; sys.exit(3)", "raise KeyboardInterrupt", "raise BaseException('gone')"]
)
def test_a_plug_in_that_ends_the_program_is_broken_like_others(mine, tmp_path, line):
    broken = tmp_path / "broken.py"
    broken.write_text(f"{line}\n")
    plugins.use([str(broken), str(mine)])
    assert planned("methods=[das3d,mean_depth]").jobs
    with pytest.raises(PluginError, match="cannot be loaded: (SystemExit: 3|Keyboard|Base.*gone)"):
        methods.get("its_own")


def test_ctrl_c_while_a_plug_in_is_imported_is_one(tmp_path, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs of a script ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    slow = tmp_path / "slow.py"
    slow.write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    plugins.use([str(slow)])
    with pytest.raises(KeyboardInterrupt):
        methods.get("its_own")


def test_a_class_that_lacks_functions_is_named_with_them(mine):
    text = FILES["mine.py"]
    mine.write_text(text[: text.index("    def save")])
    with pytest.raises(PluginError, match=r"mine.py: 'mean_depth' of methods lacks load, save"):
        planned("methods=[mean_depth]")
    assert planned("methods=[das3d]").jobs
    (one,) = plugins.broken()
    assert (one.source, one.why) == (str(mine), "'mean_depth' of methods lacks load, save")


def test_a_base_that_others_complete_is_not_broken(mine):
    text = FILES["mine.py"].replace("class MeanDepth(Method):", "class MeanDepth(Base):")
    base = "class Base(Method):\n    name = 'base'\n\n\n"
    mine.write_text(text.replace("class MeanDepth", base + "class MeanDepth"))
    assert planned("methods=[mean_depth]").jobs and not plugins.broken()


def test_a_file_that_defines_nothing_is_named(tmp_path):
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    plugins.use([str(empty)])
    with pytest.raises(PluginError, match=r"empty.py: it defines nothing of these kinds: methods"):
        methods.get("its_own")
    assert [one.source for one in plugins.broken()] == [str(empty)]


def test_a_method_with_the_name_of_one_of_ours_is_told_where_that_is_asked_for(mine, caplog):
    mine.write_text(FILES["mine.py"].replace('"mean_depth"', '"das3d"'))
    assert planned("methods=[baseline]").jobs and not caplog.text
    assert planned("methods=[das3d]").jobs
    assert f"plug-in {mine}: its method 'das3d' is not used" in caplog.text
    assert [one.part for one in methods.shadowed()] == ["das3d"]


def test_a_file_that_does_not_parse_is_named_with_the_line(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("x = 1\ndef (:\n")
    plugins.use([str(broken)])
    with pytest.raises(PluginError, match=r"SyntaxError: .*\n.*broken.py\", line 2"):
        methods.get("its_own")


@pytest.mark.parametrize(
    "old, new, said",
    [
        (
            "@dataclass(frozen=True)\nclass Settings",
            "class Settings",
            "its Settings is .*dataclass",
        ),
        (
            " = field(default_factory=lambda: Das3dView(size=64))",
            "",
            "its Settings has no default for view",
        ),
    ],
)
def test_a_method_that_does_not_fit_the_contract_is_named(mine, old, new, said):
    mine.write_text(FILES["mine.py"].replace(old, new))
    with pytest.raises(PluginError, match=f"'mean_depth' of plug-in {mine}: {said}"):
        planned("methods=[mean_depth]")
    assert planned("methods=[das3d]").jobs


def test_a_bug_in_a_plug_in_is_called_one_with_its_own_traceback(mine):
    mine.write_text(FILES["mine.py"].replace("return settings.view", "return int('no number')"))
    with pytest.raises(ValueError) as raised:
        planned("methods=[mean_depth]")
    told = describe(raised.value)
    assert told.text.startswith(f"this is a bug in the plug-in {mine}: invalid literal for int()")
    assert "return int('no number')" in told.text and "planning" not in told.text and not told.bug


def test_a_bug_in_asking_for_inputs_is_not_taken_for_advice(mine):
    inputs = (
        "    @classmethod\n    def inputs(cls, settings, setting):\n        return int('x')\n\n"
    )
    text = FILES["mine.py"].replace("    def fit", inputs + "    def fit")
    mine.write_text(text)
    with pytest.raises(ValueError) as raised:
        planned("methods=[mean_depth]")
    assert "bug in the plug-in" in describe(raised.value).text
    mine.write_text(text.replace("return int('x')", "raise UserError('get the weights')"))
    mine.write_text("from methods.errors import UserError\n" + mine.read_text())
    with pytest.raises(ConfigError, match="get the weights"):
        planned("methods=[mean_depth]")


def test_a_bug_in_fitting_is_told_with_file_and_line(mine, tmp_path):
    text = FILES["mine.py"].replace(
        "        self.mean = train", "        1 / 0\n        self.mean = train"
    )
    mine.write_text(text)
    store = Store(tmp_path / "store")
    (failure,) = run(planned("methods=[mean_depth]"), store).failures
    line = text[: text.index("1 / 0")].count("\n") + 1
    assert failure.reason == f"ZeroDivisionError: division by zero ({mine}, line {line})"
    told = io.StringIO()
    with pytest.raises(typer.Exit), contextlib.redirect_stderr(told):
        exit_with([failure])
    assert str(store.failure(failure.key)) in told.getvalue()


def test_a_name_that_nobody_has_is_told_with_what_cannot_be_loaded(mine, tmp_path, monkeypatch):
    broken = [plugins.Broken("their_package 1.0", "ImportError: no torchvision")]
    monkeypatch.setattr(plugins, "broken", lambda: broken)
    with pytest.raises(
        UserError, match=r"unknown method 'its_own'.*their_package 1.0 \(ImportError"
    ):
        methods.get("its_own")


def test_two_plug_ins_with_one_name_are_refused(mine, tmp_path):
    twin = shutil.copy(mine, tmp_path / "twin.py")
    plugins.use([str(mine), str(twin)])
    with pytest.raises(PluginError, match="in two plug-ins, .*mine.py and .*twin.py"):
        methods.get("mean_depth")


def test_a_copy_of_a_plug_in_is_the_same_one(mine, tmp_path, caplog):
    mine.write_text(FILES["mine.py"] + FILES["miss.py"])
    (tmp_path / "copy").mkdir()
    plugins.use([str(mine), shutil.copy(mine, tmp_path / "copy")])
    join()
    assert methods.get("mean_depth").name == "mean_depth" and find("i_miss") and not caplog.text
    (tmp_path / "copy/mine.py").write_text(FILES["mine.py"])
    with pytest.raises(PluginError, match="in two plug-ins"):
        methods.get("mean_depth")
    plugins.use([])
    join()


def test_a_folder_is_a_plug_in_of_several_files(tmp_path):
    folder = tmp_path / "several"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .method import MeanDepth\n")
    (folder / "method.py").write_text(FILES["mine.py"])
    plugins.use([str(folder)])
    before = plugins.fingerprint(str(folder))
    assert methods.get("mean_depth").__module__.endswith(".method")
    (folder / "method.py").write_text(FILES["mine.py"] + "\n")
    assert plugins.fingerprint(str(folder)) != before


def test_a_plug_in_that_is_not_there_says_what_would_do(tmp_path):
    with pytest.raises(PluginError, match=r"nowhere.py: there is no such file or folder"):
        planned("plugins=[nowhere.py]", "methods=[das3d]")


def test_a_file_comes_to_workers_through_the_store(mine, tmp_path):
    store = Store(tmp_path / "store")
    wanted = plugins.described()
    lay_plugins(store.path)
    lay_plugins(store.path)  # twice changes nothing
    assert (store.path / PLUGINS / wanted[str(mine)] / "mine.py").exists()
    plugins.use([])
    mine.unlink()  # as on another machine
    assert admit_plugins(wanted, store.path) is None
    assert methods.get("mean_depth").name == "mean_depth"
    assert plugins.described() == wanted


def test_a_worker_with_other_code_of_a_plug_in_refuses(mine, tmp_path):
    plan = planned("methods=[mean_depth]")
    job = plan.jobs[plan.cells[0]["key"]]
    mine.write_text(FILES["mine.py"] + "\n")
    outcome = run_job(job.describe(), str(tmp_path / "store"))
    assert outcome.status == REFUSED and f"has the plug-in {mine} with code" in outcome.reason


def test_the_command_line_takes_plug_ins_wherever_they_stand(mine, monkeypatch):
    plugins.use([])
    monkeypatch.setenv(plugins.VARIABLE, "")
    rest = plugged(["run", "--plugin", str(mine), "tiny.yaml", f"--plugin={mine}", "--serial"])
    assert rest == ["run", "tiny.yaml", "--serial"] and plugins.given() == (str(mine),)
    with pytest.raises(UserError, match="--plugin needs a file"):
        plugged(["run", "--plugin"])


def test_views_readers_and_metrics_are_known_by_name(tmp_path):
    for name in ("grey.py", "csv_folder.py", "miss.py"):
        (tmp_path / name).write_text(FILES[name])
    plugins.use([str(tmp_path / name) for name in ("grey.py", "csv_folder.py", "miss.py")])
    assert registry.view_named("grey").recipe.size == 64
    assert datasets.layout_of("csv_folder").LAYOUT.startswith("<category>/list.csv")
    assert datasets.reading("csv_folder", {"scale": "0.5"})["scale"] == 0.5
    join()
    try:
        assert find("i_miss").smaller_is_better
    finally:
        plugins.use([])
        join()
    assert "i_miss" not in [metric.name for metric in known_metrics()]
    with pytest.raises(UserError, match="unknown view 'grey'"):
        registry.view_named("grey")


def test_a_plug_in_that_cannot_be_loaded_is_told_where_its_metrics_would_count(tmp_path, caplog):
    from harness.metrics.outside import join

    (tmp_path / "boom.py").write_text("from harness.metrics import Metric\n1 / 0\n")
    plugins.use([str(tmp_path / "boom.py")])
    try:
        join()
        assert "boom.py is left out" in caplog.text and "ZeroDivisionError" in caplog.text
        join()
        join(tell=False)  # as each job does
        assert caplog.text.count("boom.py is left out") == 1
    finally:
        plugins.use([])


@pytest.mark.parametrize(
    "old, new, said",
    [
        (
            'name, Settings = "mean_depth"',
            'name, Settings = "mean depth"',
            "'mean depth' is no name",
        ),
        ("@dataclass(frozen=True)", "@dataclass", "Settings is not frozen"),
        (
            "    power: float = 1.0",
            "    power: object = field(default_factory=object)",
            "power is a",
        ),
        ("    power: float = 1.0", '    power: "Nowhere" = 1.0', "NameError: name 'Nowhere'"),
        (
            "    def fit",
            '    version = "new"\n\n    def fit',
            "version is 'new'; it must be a whole",
        ),
        (
            "    def fit",
            '    variants = {"x": {"powr": 2}}\n\n    def fit',
            "'x' changes powr, and",
        ),
        ("    def fit", '    variants = ["x"]\n\n    def fit', "variants are .'x'.; it must be"),
    ],
)
def test_what_a_method_says_of_itself_is_checked_before_anything_is_planned(mine, old, new, said):
    text = FILES["mine.py"].replace(old, new)
    mine.write_text(text)
    name = "mean depth" if "mean depth" in text else "mean_depth"
    with pytest.raises(PluginError, match=f"{name}' of plug-in {mine}: .*{said}"):
        methods.get(name)


def test_ours_say_of_themselves_what_plug_ins_must():
    assert not any(unfit(methods.declared(name), name) for name in methods.METHODS)


def test_a_view_that_is_none_is_told(mine):
    mine.write_text(FILES["mine.py"].replace("return settings.view", "return None"))
    with pytest.raises(UserError, match=r"mean_depth: view\(\) returned None; it must be a recipe"):
        planned("methods=[mean_depth]")


def test_a_base_without_a_name_is_none_of_the_methods_and_a_lone_class_without_one_is_told(mine):
    text = FILES["mine.py"].replace(
        '    name, Settings = "mean_depth", Settings\n', "    Settings = Settings\n"
    )
    mine.write_text(text + '\n\nclass One(MeanDepth):\n    name = "one"\n')
    assert plugins.names("methods") == ("one",) and not plugins.broken()
    mine.write_text(text)
    assert [one.why for one in plugins.broken()] == [
        "'MeanDepth' of methods lacks a name: name = \"...\""
    ]


def test_a_name_that_is_twice_in_a_file_is_refused(mine):
    mine.write_text(FILES["mine.py"] + "\n\nclass Other(MeanDepth):\n    version = 2\n")
    with pytest.raises(
        PluginError, match="is there more than once, as MeanDepth and Other: rename"
    ):
        planned("methods=[mean_depth]")


@pytest.mark.parametrize(
    "made, said",
    [
        (lambda maps: None, "None; it must be a methods.contract.Prediction"),
        (lambda maps: (maps, maps[:, 0, 0]), "a tuple; it must be"),
        (lambda maps: Prediction(maps.numpy(), maps), "maps that are a ndarray, and no torch.Tens"),
        (lambda maps: Prediction(maps, [0.0] * 3), "scores that are a list, and no torch.Tensor"),
        (lambda maps: Prediction(maps.requires_grad_(), maps), "hold a graph: predict under torch"),
    ],
)
def test_what_is_no_prediction_is_told_and_predicted_no_more(made, said):
    class Odd(Method):
        name = "odd"

        def predict(self, batch):
            return made(torch.zeros(batch["rgb"].shape))

    samples = Samples({"rgb": np.zeros((3, 4, 4), np.float32)}, ("a", "b", "c"))
    Odd.__abstractmethods__ = frozenset()
    with pytest.raises((TypeError, ValueError), match=f"^odd: predict returned .*{said}"):
        predict_all(Odd(None, "rgb"), blind(samples, "c", "salt"), 3, "cpu", lambda told: None)


def test_a_method_that_ends_the_program_fails_its_cell_alone(mine, tmp_path):
    text = FILES["mine.py"].replace(
        "        self.mean = train", "        sys.exit(3)\n        self.mean = train"
    )
    mine.write_text("import sys\n" + text)
    (failure,) = run(planned("methods=[mean_depth]"), Store(tmp_path / "store")).failures
    assert re.fullmatch(rf"SystemExit: 3 \({mine}, line \d+\)", failure.reason)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("return [self._ref(row) for row in rows], []", "return rows", "lists the split train as"),
        ("return [self._ref(row) for row in rows], []", "return rows, []", "lists the split train"),
        ("return sorted(self.folder.iterdir())", "return None", "files.. returned None; it must"),
        ("return CsvCategory(name, folder, options)", "return None", "makes None of lid; make_cat"),
    ],
)
def test_what_a_reader_gives_is_checked_and_told_with_its_folder(tmp_path, old, new, said):
    (tmp_path / "csv_folder.py").write_text(FILES["csv_folder.py"].replace(old, new))
    plugins.use([str(tmp_path / "csv_folder.py")])
    (tmp_path / "data/lid").mkdir(parents=True)
    table = "split,defect,image,cloud,mask\ntrain,good,a.png,a.tiff,\n"
    (tmp_path / "data/lid/list.csv").write_text(table)
    with pytest.raises(UserError, match=f"the reader of {tmp_path}/data.* {said}"):
        category = datasets.open_dataset("csv_folder", tmp_path / "data").category("lid")
        paths_of(category)
        category.samples("train")


MASK = np.zeros((4, 4), bool)


@pytest.mark.parametrize(
    "made, said",
    [
        (None, "prepare returned None; it must be a dict of arrays"),
        ({"grey": MASK}, "prepare returned no 'mask' .*; it has grey"),
        ({"mask": MASK[0]}, "no 'mask' .rows, columns. with 1 axes"),
        ({"mask": MASK, "grey": [1.0]}, "returned 'grey' as list; it must be an array of numbers"),
        ({"mask": MASK, "grey": np.zeros(2, object)}, "returned 'grey' as object; it must be"),
    ],
)
def test_what_a_view_makes_of_a_sample_is_checked_and_named(monkeypatch, made, said):
    builder = registry.Builder(PlainView, lambda sample, view, seed: made)
    monkeypatch.setattr(build, "builder_of", lambda recipe: builder)
    sample = types.SimpleNamespace(category="lid", id="train/good/000")
    with pytest.raises(TypeError, match=f"^view 'plain' of lid/train/good/000: .*{said}"):
        build.prepare(sample, PlainView())


def test_samples_of_other_shapes_and_ways_back_that_are_none_are_told(tmp_path):
    (tmp_path / "train").mkdir()
    with build._Rows(tmp_path / "train", 2) as rows:
        rows.write({"grey": np.zeros((4, 4), np.float32)})
        with pytest.raises(ValueError, match=r"'grey' is float32 \(4, 4\) of the first"):
            rows.write({"grey": np.zeros((3, 4), np.float32)})
        rows.write({"grey": np.zeros((4, 4), np.float32)})
    builder = registry.Builder(PlainView, build.prepare, frame=lambda view, size: None)
    with pytest.raises(TypeError, match="view 'plain': frame returned None; it must be a"):
        build._frame(builder, PlainView(), (4, 4))


def test_a_signal_to_a_worker_is_no_failure_of_the_plug_in_at_work(mine):
    """Ray ends a worker by SystemExit from its own code."""
    ray = types.ModuleType("ray.worker")
    exec("def handler():\n    raise SystemExit(1)", vars(ray))
    mine.write_text("import sys\n\n\ndef work(call):\n    call()\n")
    work = plugins._module(str(mine)).work
    for call, quits in ((sys.exit, True), (ray.handler, False)):
        with pytest.raises(SystemExit) as raised:
            work(call)
        assert plugins.quits(raised.value) is quits
