"""Every kind of damage to a finished store: the same command heals it, or names file and remedy.

A case damages one file or folder of a small finished store, runs the same launch again and looks at
three things: nothing ends in a traceback, the leaderboard has the bytes of the undisturbed one
unless the command failed and named the damage, and after `relief store check --deep --repair` and
the same command all is as before. A line a case, a tally at the end (pytest -s shows them).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import methods
from harness import metrics
from harness.cli import app as cli
from harness.store import FAILED, Store
from tests.harness.conftest import TINY, planned, run

TOY = ("methods=[toy,toy/double]", "settings=[3d]", "protocol.keep_models=true")
DAS3D = ("methods=[das3d]",)
HEALED, NAMED, UNREAD = "healed", "named", "not read, found by check"
TALLY: Counter[str] = Counter()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def hollow(path: Path) -> None:
    """A folder that lost all its files."""
    shutil.rmtree(path)
    path.mkdir()


def to_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


ON_FILES: dict[str, Callable[[Path], None]] = {
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "half": half,
    "flipped": flip,
    "null": lambda path: path.write_text("null"),
    "{}": lambda path: path.write_text("{}"),
    "a folder": to_folder,
}
ON_FOLDERS: dict[str, Callable[[Path], None]] = {
    "removed": shutil.rmtree,
    "hollow": hollow,
    "a file": to_file,
}
FILES = {  # what -> where below the folder of the launch's first job of that kind
    "dataset image": ("dataset", "cookie/test/good/rgb/000.png"),
    "dataset cloud": ("dataset", "cookie/train/good/xyz/000.tiff"),
    "dataset record": ("dataset", "result.json"),
    "view training array": ("view", "train/depth.npy"),
    "view test array": ("view", "test/depth.npy"),
    "view masks": ("view", "test/mask.npy"),
    "view index": ("view", "test/index.json"),
    "view record": ("view", "result.json"),
    "stage file": ("stage", "counts.json"),
    "stage record": ("stage", "result.json"),
    "cell scores": ("cell", "scores.parquet"),
    "cell maps": ("cell", "maps.npy"),
    "cell map ids": ("cell", "maps.json"),
    "cell curves": ("cell", "pro_curve.npz"),
    "cell model": ("cell", "model/mean.pt"),
    "cell record": ("cell", "result.json"),
    "launch": ("launches", ""),
    "failure": ("failures", ""),
}
FOLDERS = {
    "dataset": ("dataset", ""),
    "view": ("view", ""),
    "view split": ("view", "test"),
    "stage": ("stage", ""),
    "cell": ("cell", ""),
    "work of the cell": ("work", ""),
}
QUICK = {  # a damage of every kind, and every kind of file
    ("dataset image", "half"),
    ("view test array", "flipped"),
    ("view index", "removed"),
    ("stage file", "{}"),
    ("cell scores", "flipped"),
    ("cell maps", "flipped"),
    ("cell curves", "emptied"),
    ("cell record", "flipped"),
    ("cell record", "null"),
    ("launch", "half"),
    ("failure", "emptied"),
    ("view", "hollow"),
    ("cell", "a file"),
    ("work of the cell", "a file"),
}


def cases() -> Iterator:
    for kinds, damages in ((FILES, ON_FILES), (FOLDERS, ON_FOLDERS)):
        for what in kinds:
            for damage in damages:
                slow = () if (what, damage) in QUICK else pytest.mark.slow
                yield pytest.param(what, damage, marks=slow, id=f"{what}, {damage}")


@dataclass
class Small:
    """A finished store of the toy method, copied for every case."""

    store: Store
    leaderboard: bytes
    jobs: dict[str, str]  # kind -> key of the first job

    def copy(self, path: Path) -> Path:
        shutil.copytree(self.store.path, path)
        return path


@pytest.fixture(scope="module", autouse=True)
def toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods.METHODS, "toy", "tests.harness.toy_method:Toy")
        patch.setattr(os, "fsync", lambda handle: None)  # no power cut in here, and it is slow
        yield
    tally = ", ".join(f"{count} {outcome}" for outcome, count in sorted(TALLY.items()))
    print(f"\ndamage: {sum(TALLY.values())} cases: {tally}")


@pytest.fixture(scope="module")
def small(toy, tmp_path_factory) -> Small:
    store = Store(tmp_path_factory.mktemp("small") / "store")
    launch(store.path, *TOY, expected=0)
    plan = planned(*TOY)
    jobs = {job.about.kind: key for key, job in reversed(plan.jobs.items())}
    jobs["stage"] = next(key for key, job in plan.jobs.items() if job.about.stage == "counts")
    store.fail("f" * 16, {"key": "f" * 16, "status": FAILED, "reason": "as asked"})
    return Small(store, leaderboard(store.path), jobs)


def relief(*arguments) -> tuple[int, str]:
    """A command in this process; -> its exit code and a traceback if it ended in one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["relief", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0), ""
        except BaseException:
            return -1, traceback.format_exc()
    return 0, ""


def launch(store: Path, *changes: str, expected: int | None = None) -> int:
    code, trace = relief("run", TINY, *changes, "--store", store, "--serial", "--tracking", "none")
    assert not trace, trace
    if expected is not None:
        assert code == expected
    return code


def leaderboard(store: Path) -> bytes:
    return next(store.glob("reports/*/leaderboard.csv")).read_bytes()


def place(small: Small, store: Path, kind: str, below: str) -> Path:
    if kind in ("launches", "failures"):
        return next((store / kind).glob("*.json"))
    if kind == "work":
        work = store / "work" / small.jobs["cell"]
        (store / "jobs" / small.jobs["cell"]).replace(work)  # interrupted, not done
        (work / "result.json").unlink()
        return work
    return store / "jobs" / small.jobs[kind] / below


@pytest.mark.parametrize(("what", "damage"), list(cases()))
def test_damage_is_healed_by_the_same_command_or_named(
    small, what, damage, tmp_path, capsys, caplog
):
    store = small.copy(tmp_path / "store")
    path = place(small, store, *(FILES | FOLDERS)[what])
    (ON_FILES if what in FILES else ON_FOLDERS)[damage](path)
    shutil.rmtree(store / "reports")

    code = launch(store, *TOY)
    told = "".join(capsys.readouterr()) + caplog.text
    assert "Traceback" not in told
    same = leaderboard(store) == small.leaderboard
    if code:
        assert str(path.relative_to(store)) in told and "relief" in told, told
    assert same or code, f"another leaderboard without a word: {told}"

    outcome = NAMED if code else HEALED
    if code:  # set aside by then: the same command computes it again
        launch(store, *TOY, expected=0)
    code, _ = relief("store", "check", "--deep", "--store", store)
    told = "".join(capsys.readouterr())
    if code:  # what was named, and what nothing has read
        outcome = NAMED if outcome == NAMED else UNREAD
        assert code == 1 and "damaged" in told, told
        assert relief("store", "check", "--deep", "--repair", "--store", store) == (0, "")
        launch(store, *TOY, expected=0)
        assert relief("store", "check", "--deep", "--store", store) == (0, "")
    assert leaderboard(store) == small.leaderboard
    with capsys.disabled():
        TALLY[outcome] += 1
        print(f"\n{what}, {damage}: {outcome}", end="")


class Stopped(Exception):
    """A job that was killed after its fit."""


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory) -> tuple[bytes, Path]:
    """The leaderboard of an undisturbed training, and a store where it was killed after its fit."""
    whole, killed = (tmp_path_factory.mktemp(name) / "store" for name in ("whole", "killed"))
    launch(whole, *DAS3D, expected=0)

    def stop(*_):
        raise Stopped("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "evaluate_with_curves", stop)
        launch(killed, *DAS3D, expected=1)
    (cell,) = {path.parent for path in killed.glob("work/*/checkpoint*.pt")}
    assert (cell / "checkpoint.before.pt").exists()
    (cell / "curve.csv").write_text("phase,step,loss\ntrain,2,0.5\n")
    (cell / "progress.json").write_text('{"started": 1}')
    return leaderboard(whole), killed


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param(
            name,
            damage,
            marks=() if (name, damage) == ("checkpoint*.pt", "half") else pytest.mark.slow,
        )
        for name in ("checkpoint.pt", "checkpoint*.pt", "curve.csv", "progress.json")
        for damage in ("removed", "emptied", "half", "flipped", "null")
    ],
)
def test_torn_work_of_a_killed_job_is_no_hindrance(trained, name, damage, tmp_path, capsys):
    undisturbed, killed = trained
    store = tmp_path / "store"
    shutil.copytree(killed, store)
    for path in store.glob(f"work/*/{name}"):
        ON_FILES[damage](path)
    launch(store, *DAS3D, expected=0)
    assert "Traceback" not in "".join(capsys.readouterr())
    assert leaderboard(store) == undisturbed
    with capsys.disabled():
        TALLY[HEALED] += 1
        print(f"\nwork of a killed job, {name}, {damage}: {HEALED}", end="")


def test_a_view_with_a_flipped_byte_is_made_again_for_the_next_cell(small, tmp_path):
    store = Store(small.copy(tmp_path / "store"))
    flip(store.folder(small.jobs["view"]) / "train" / "depth.npy")
    plan = planned(*TOY, "toy.factor=3")
    assert not run(plan, store).failures
    undisturbed = Store(small.copy(tmp_path / "other"))
    assert not run(plan, undisturbed).failures
    for cell in plan.cells:
        found = [s.finished(cell["key"]).files["maps.npy"] for s in (store, undisturbed)]
        assert found[0] == found[1]
    assert Store(store.path).damage(small.jobs["view"], contents=True) is None
    assert len(list(store.path.glob("damaged/*"))) == 1


def test_a_report_of_damaged_files_names_them_and_exits_with_1(small, tmp_path, capsys):
    store = small.copy(tmp_path / "store")
    flip(store / "jobs" / small.jobs["cell"] / "maps.npy")
    for command in (("report",), ("export", tmp_path / "maps")):
        assert relief(*command, "--store", store) == (1, "")
        told = capsys.readouterr()
        assert "maps.npy has other bytes" in told.err and "--deep --repair" in told.err
    page = next(store.glob("reports/*/cells.csv")).read_text()
    assert page.count(",damaged,") == 2 and page.count(",done,") == 2  # once a protocol
    assert relief("compare", store, store)[0] == 0  # it reads no maps
    flip(store / "jobs" / small.jobs["cell"] / "scores.parquet")
    assert relief("compare", store, store) == (1, "")
    assert "scores.parquet has other bytes" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("what", ["cell scores", "cell record", "view masks", "launch"])
def test_a_file_that_may_not_be_read_is_named(small, what, tmp_path, capsys):
    store = small.copy(tmp_path / "store")
    path = place(small, store, *FILES[what])
    path.chmod(0)
    code = launch(store, *TOY)
    told = "".join(capsys.readouterr())
    path.chmod(0o644)
    assert code == 0 or path.name in told
    with capsys.disabled():
        TALLY[NAMED if code else HEALED] += 1


def sync(store: Path) -> tuple[int, str]:
    """In a process of its own: MLflow keeps a database that it has opened."""
    command = [sys.executable, "-m", "harness", "sync", "--store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["emptied", "half", "flipped", "null"])
def test_a_damaged_database_of_mlflow_is_written_anew(small, damage, tmp_path, capsys):
    store = small.copy(tmp_path / "store")
    assert sync(store)[0] == 0
    path = store / "mlflow.db"
    ON_FILES[damage](path)
    if damage == "flipped":
        path.write_bytes(b"x" * 4096 + path.read_bytes()[4096:])
    code, told = sync(store)
    assert "Traceback" not in told and (code == 0 or "relief sync" in told), told
    assert relief("store", "check", "--repair", "--store", store)[1] == ""
    assert sync(store)[0] == 0
    with capsys.disabled():
        TALLY[NAMED if code else HEALED] += 1
        print(f"\nmlflow.db, {damage}: {NAMED if code else HEALED}", end="")
