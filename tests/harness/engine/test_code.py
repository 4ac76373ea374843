"""A worker computes with its driver's code, or refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.installation import foreign
from harness.engine import code
from harness.engine.driver import Driver
from harness.engine.executors import InfeasibleError, InProcess
from harness.engine.job import run_job
from harness.engine.outcomes import REFUSED, Outcome
from harness.planning.config import Schedule
from harness.store import DONE, FAILED, Store
from tests.harness import toy

OTHER = {"version": "9.9", "code": "0123456789abcdef"}


def copied(folder: Path) -> Path:
    """Another installation of the same modules."""
    for package in code.PACKAGES:
        for path in (code.ROOT / package).rglob("*.py"):
            there = folder / path.relative_to(code.ROOT)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())
    return folder


def test_the_fingerprint_is_of_what_modules_say_and_not_of_where_they_lie(tmp_path):
    other = copied(tmp_path)
    (other / "harness/__pycache__").mkdir()
    (other / "harness/__pycache__/store.pyc").write_bytes(b"anything")
    assert code.fingerprint.__wrapped__(other) == code.fingerprint()
    (other / "harness/metrics/extra.py").write_text("")
    more = code.fingerprint.__wrapped__(other)
    (other / "harness/metrics/extra.py").write_text("#")
    assert len({code.fingerprint(), more, code.fingerprint.__wrapped__(other)}) == 3


def test_a_job_of_other_code_is_refused_before_anything_is_written(tmp_path):
    job, store = toy.job("any"), tmp_path / "store"
    outcome = run_job(job.describe() | OTHER, str(store))
    assert outcome.status == REFUSED and outcome.key == job.key
    for named in (os.uname().nodename, code.fingerprint(), code.version(), *OTHER.values()):
        assert named in outcome.reason
    assert not store.exists()


def test_a_job_whose_store_is_not_here_is_refused_before_anything_is_written(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    token = code.lay_token(there)
    signed = toy.job("any").describe() | code.signature(token)
    assert code.refusal(signed, there) is None
    outcome = run_job(signed, str(here))
    assert outcome.status == REFUSED
    assert str(here) in outcome.reason and "--store" in outcome.reason
    assert not here.exists()
    code.lift_token(there, token)
    assert not any((there / code.TOKENS).iterdir())


def test_tokens_of_drivers_long_dead_go_and_those_of_others_stay(tmp_path):
    old, young = code.lay_token(tmp_path), code.lay_token(tmp_path)
    long_ago = (tmp_path / code.TOKENS / old).stat().st_mtime - 86400 * (code.TOKEN_DAYS + 1)
    os.utime(tmp_path / code.TOKENS / old, (long_ago, long_ago))
    third = code.lay_token(tmp_path)
    assert {path.name for path in (tmp_path / code.TOKENS).iterdir()} == {young, third}


def test_a_description_made_by_hand_needs_no_signature(tmp_path):
    assert code.refusal(toy.job("any").describe(), tmp_path) is None


def test_records_name_the_code_and_the_host_that_computed_them(tiny_store):
    for record in tiny_store.results():
        assert record.environment["code"] == code.fingerprint()
        assert record.environment["host"] == os.uname().nodename
        assert record.environment["python"].startswith(f"{sys.version_info.major}.")


def test_a_refused_job_goes_elsewhere_and_costs_no_attempt(tmp_path):
    class OfTwo(InProcess):
        """The first node refuses, the second computes."""

        excluded: list[str] = []

        def exclude(self, refused):
            self.excluded.append(refused.node)

    def task(job, store_path, attempt):
        if not executor.excluded:
            return Outcome(job["key"], REFUSED, "other code", node="first")
        return toy.task(job, store_path, attempt)

    store, executor, told = Store(tmp_path), OfTwo(task), []
    plan = toy.plan(toy.job("a"), toy.job("b"))
    summary = Driver(plan, store, executor, Schedule(), told.append).run()
    assert summary.counts == {DONE: 2} and executor.excluded == ["first"]
    assert sorted(line.split()[1] for line in toy.ran(store)) == ["1", "1"]
    assert [e.reason for e in told if e.name == "retry"] == ["other code"]


def test_where_every_node_refuses_the_launch_ends_with_the_reason(tmp_path):
    def task(job, store_path, attempt):
        return Outcome(job["key"], REFUSED, "vm has other code")

    with pytest.raises(InfeasibleError, match="vm has other code"):
        Driver(toy.plan(toy.job("a")), Store(tmp_path), InProcess(task), Schedule()).run()


def test_a_job_that_is_said_to_be_done_and_is_not_in_the_store_fails_with_the_folder(tmp_path):
    store, job = Store(tmp_path), toy.job("a")
    Driver(toy.plan(job), store, InProcess(toy.nothing), Schedule(retries=1)).run()
    record = store.result(job.key)
    assert record.status == FAILED and record.attempt == 2
    assert "no result" in record.reason and str(tmp_path) in record.reason


def python(program: str, folder: Path, *arguments: str, **environment: str):
    """Run a program in a folder, as an installed command with this installation would."""
    start = f"import sys; sys.path[:] = [{str(code.ROOT)!r}, *filter(None, sys.path)]\n"
    return subprocess.run(
        [sys.executable, "-P", "-c", start + program, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


DRIVE = """
from harness.engine.driver import Driver
from harness.engine.on_ray import OnRay
from harness.planning.config import Schedule
from harness.store import Store
from tests.harness import toy
executor = OnRay(cpus=1, gpus=0, task=toy.where)
Driver(toy.plan(toy.job("where")), Store(sys.argv[1]), executor, Schedule(retries=0)).run()
"""


def test_workers_never_import_from_the_current_folder(tmp_path):
    folder = copied(tmp_path / "checkout")
    (folder / "methods/__init__.py").write_text("raise RuntimeError('not ours')")
    done = python(DRIVE, folder, str(tmp_path / "store"))
    assert done.returncode == 0, done.stderr
    lines = toy.ran(Store(tmp_path / "store"))
    assert lines == [str(code.ROOT / "harness/__init__.py"), str(code.ROOT / "methods/__init__.py")]


def test_a_module_of_the_users_own_in_place_of_ours_is_named(tmp_path):
    assert foreign(code.ROOT) is None
    (tmp_path / "methods.py").write_text("")
    environment = {"PYTHONPATH": str(code.ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "harness", "plan"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert str(tmp_path / "methods.py") in done.stderr and "rename" in done.stderr
