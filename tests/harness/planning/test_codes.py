"""What a change of our code makes anew, on a copy of the code that is edited."""

import shutil
from pathlib import Path

import pytest

import methods
from harness import metrics
from harness.cli.plan import plan as tell_plan
from harness.data.views import registry
from harness.planning import codes, config
from harness.planning.expand import build
from harness.store import Store, UserError
from harness.store.names import Names
from methods import code, plugins
from methods.marks import EDITED, OLD_CODE
from tests.harness.conftest import TINY, run

FOUR = ("methods=[das3d,m3dm,dbrn,3dsr]", "settings=[rgb+3d]")
SMALL = ("methods=[das3d/untrained]",)  # in the tiny store
METHOD = "methods/das3d/synthesis.py"


class Copy:
    """A copy of our modules. edit: one of them, by a statement at its end."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch):
        self.root, self.patch = root, patch
        for package in ("harness", "methods"):
            only = shutil.ignore_patterns("*.pyc", "__pycache__", "*.md")
            shutil.copytree(code.ROOT / package, root / package, ignore=only)
        self.look()

    def look(self):
        sources = code.Sources(self.root)
        self.patch.setattr(code, "ours", lambda: sources)

    def edit(self, file: str, text: str):
        with (self.root / file).open("a") as f:
            f.write(f"\n{text}\n")
        self.look()

    def meaning(self, file: str) -> str:
        return code.ours().read(file).meaning


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """Keys by the declared code."""
    return keys()


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setenv("RELIEF_CACHE", str(tmp_path / "cache"))
    return Copy(tmp_path / "code", monkeypatch)


def keys() -> dict[str, str]:
    """Title of a job -> its key"""
    jobs = build(config.load("demo", ["datasets.synthetic.categories=[cookie]", *FOUR])).jobs
    return {job.title: job.key for job in jobs.values()}


def anew(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Titles of the jobs whose keys are others now."""
    assert before.keys() == after.keys()
    return {title for title in after if after[title] != before[title]}


def test_an_edited_line_of_a_method_makes_its_cells_pending_and_no_others(copy, before):
    copy.edit(METHOD, "STRENGTH = 2")
    assert anew(before, keys()) == {"das3d rgb+3d synthetic cookie 0"}


def test_an_edited_comment_makes_nothing_pending(copy, before):
    copy.edit(METHOD, "# a comment\n\n\n")
    copy.edit("harness/data/views/das3d.py", '"""More words."""')
    assert keys() == before


def test_an_edited_block_makes_what_imports_it_pending(copy, before):
    copy.edit("methods/m3dm/uff_stage.py", "RATE = 2")
    assert anew(before, keys()) == {"m3dm uff 0", "m3dm rgb+3d synthetic cookie 0"}


def test_an_edited_view_makes_what_sees_it_pending(copy, before):
    copy.edit("harness/data/views/dbrn.py", "FILLS = 2")
    assert anew(before, keys()) == {"prepare cookie for dbrn", "dbrn rgb+3d synthetic cookie 0"}


def test_the_code_of_a_view_and_of_a_stage_is_where_it_is_looked_for():
    ours = code.ours()
    for view in registry.OWN:
        name = (view.recipe.same_as or view.recipe).name
        files = ours.closure((f"{codes.VIEWS}.{name}",)) | {"harness/data/views/registry.py"}
        for part in filter(None, (view.prepare, view.learn, view.finish, view.frame)):
            assert part.__module__.replace(".", "/") + ".py" in files
    for name, at in methods.METHODS.items():
        for stage in methods.get(name).stages.values():
            module, declared = at.split(":")[0], methods.declared(name).stages[stage.name]
            found = ours.import_of(module, declared.__name__, but="declaration")
            assert found == stage.__module__


def test_edits_of_the_generator_and_of_the_truth_make_theirs_pending(copy, before):
    copy.edit("harness/data/truth.py", "BITS = 2")
    assert anew(before, keys()) == {"ground truth of cookie"}
    copy.edit("harness/data/synthetic/render.py", "LIGHTS = 2")
    assert anew(before, keys()) >= {"make synthetic/cookie", "das3d rgb+3d synthetic cookie 0"}


def test_code_of_ours_that_a_plug_in_uses_is_part_of_its_keys(copy, tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(
        "from methods.das3d.method import Das3d\n\nclass Mine(Das3d):\n    name = 'mine'\n"
    )

    def cell() -> dict:
        plan = build(
            config.load(
                str(TINY),
                [
                    "methods=[mine]",
                    "settings=[rgb]",
                    f"plugins=[{own}]",
                    "mine.texture.source=auto",
                ],
            )
        )
        return plan.jobs[plan.cells[0]["key"]].spec

    copy.patch.setattr(plugins, "_given", None)
    before = cell()
    copy.edit("methods/m3dm/pfa.py", "GRID = 2")
    assert cell() == before
    copy.edit(METHOD, "STRENGTH = 2")
    assert cell() == before | {"code": {METHOD: copy.meaning(METHOD)}}


@pytest.fixture
def store(copy, tiny_store, tmp_path):
    """A store of its own with a cell by the declared code."""
    shutil.copytree(tiny_store.path, tmp_path / "store")
    return Store(tmp_path / "store")


def small(store: Store):
    return build(config.load(str(TINY), SMALL), store.filed_as)


def test_results_of_edited_code_lie_beside_the_others_and_can_be_taken_later(copy, store):
    plan, declared = small(store), copy.meaning(METHOD)
    copy.edit(METHOD, "STRENGTH = 2")
    first, edited = copy.meaning(METHOD), small(store)
    edited.record(store)
    assert [job.about.kind for job in edited.pending(store)] == ["cell"]
    assert not run(edited, store).failures
    record = store.finished(edited.cells[0]["key"])
    assert record.spec.code == {METHOD: first} and EDITED in record.marks
    assert store.done(plan.cells[0]["key"]) and not edited.pending(store)
    assert EDITED not in store.finished(plan.cells[0]["key"]).marks

    copy.edit(METHOD, "log = None")
    earlier = codes.earlier_codes(small(store), store)
    assert [(one.codes, one.cells) for one in earlier] == [
        ({METHOD: declared}, 1),
        ({METHOD: first}, 1),
    ]
    codes.accepting(store, [first]).write(store.path)
    assert taken(small(store), edited)
    codes.accepting(store, [declared]).write(store.path)  # the last word counts
    assert taken(small(store), plan)


def taken(plan, earlier) -> bool:
    """Whether the cells are the earlier ones, and say that they are taken for others."""
    assert all(OLD_CODE in plan.jobs[cell["key"]].place.marks for cell in plan.cells)
    return plan.cells == [cell | {"marks": [OLD_CODE]} for cell in earlier.cells]


def test_cells_on_results_of_earlier_code_are_marked_and_no_others(copy):
    every = {"das3d", "m3dm", "dbrn", "3dsr"}
    parts = {
        "methods/das3d/method.py": {"das3d"},
        "methods/m3dm/uff_stage.py": {"m3dm"},
        "harness/data/views/dbrn.py": {"dbrn"},
        "harness/data/synthetic/render.py": every,
        "harness/data/truth.py": every,
    }
    before = {file: copy.meaning(file) for file in parts}
    for file in parts:
        copy.edit(file, "STRENGTH = 2")
    for file, old in parts.items():
        names = Names(code={copy.meaning(file): before[file]})
        plan = build(config.load("demo", ["datasets.synthetic.categories=[cookie]", *FOUR]), names)
        assert {cell["method"] for cell in plan.cells if "marks" in cell} == old, file


def test_a_plan_says_what_a_change_makes_anew_and_accept_old_takes_what_was(copy, store, capsys):
    plan, before = small(store), copy.meaning(METHOD)
    copy.edit(METHOD, "STRENGTH = 2")
    arguments = dict(what=[str(TINY), *SMALL], store=store.path)
    tell_plan(**arguments)
    told = " ".join(capsys.readouterr().out.split())
    assert f"{METHOD} (now {copy.meaning(METHOD)}); anew by it: das3d/untrained rgb+3d 1" in told
    assert f"1 of these cells are done by {METHOD} of before" in told
    assert f"--accept-old {before} takes them" in told

    tell_plan(**arguments, accept_old=[before])
    told = capsys.readouterr().out
    assert " 0 to do" in told and "code was changed" not in told
    assert small(store).pending(store)  # a plan keeps nothing

    codes.accepting(store, [before]).write(store.path)
    assert taken(small(store), plan) and not small(store).pending(store)
    copy.edit(METHOD, "STRENGTH = 3")  # which nobody said anything of
    assert small(store).pending(store)
    with pytest.raises(UserError, match="no code 'abc' is known here"):
        codes.accepting(store, ["abc"])


def test_changed_code_of_metrics_stands_in_signatures_and_in_no_key(copy, before, capsys, tmp_path):
    metric = metrics.get("i_auroc")
    released = metric.signature("native")
    copy.edit("harness/metrics/ranking.py", "TIES = 2")
    assert keys() == before
    edited = metric.signature("native")
    assert edited != released and metric.stale(released)
    assert not metric.stale(edited) and metric.comparable(edited) == edited
    tell_plan([str(TINY), *SMALL], tmp_path)
    assert "`relief rescore` computes" in " ".join(capsys.readouterr().out.split())


def test_declaring_makes_changed_code_the_one_that_versions_stand_for(copy, before):
    copy.edit(METHOD, "STRENGTH = 2")
    copy.edit("methods/das3d/own.py", "SEED = 1")
    copy.edit(METHOD, "from methods.das3d import own")
    assert codes.undeclared(code.ours()) == {METHOD: ["das3d"], "methods/das3d/own.py": ["das3d"]}
    assert codes.main([]) == 1 and codes.main(["declare"]) == 0
    copy.look()
    assert codes.main([]) == 0 and keys() == before
