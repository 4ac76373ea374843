"""The main job as a user runs it.

The undisturbed launch runs without Ray; one worker, two workers, killed, interrupted and
simultaneous launches must end in its very bytes.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.store import DONE, Store

TINY = Path(__file__).parent / "harness" / "tiny.yaml"
OPTIONS = [str(TINY), "settings=[rgb,rgb+3d]"]


def relief(*arguments, **options):
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def finish(process, code=0):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def leaderboard(store):
    return next(Path(store).glob("reports/*/leaderboard.csv")).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = tmp_path_factory.mktemp("undisturbed")
    output = finish(relief("run", *OPTIONS, "--store", store, "--serial"))
    assert "leaderboard.html" in output and "relief ui" in output
    return store


def test_running_again_computes_nothing(undisturbed):
    before = {p: p.stat().st_mtime_ns for p in Path(undisturbed).glob("jobs/*/result.json")}
    start = time.monotonic()
    output = finish(relief("run", *OPTIONS, "--store", undisturbed, "--workers", 1))
    assert "0 jobs to do" in output
    assert time.monotonic() - start < 45  # 15 s on an idle machine; the suite's is not
    assert {p: p.stat().st_mtime_ns for p in Path(undisturbed).glob("jobs/*/result.json")} == before


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_launch_stopped_half_way_goes_on_to_the_same_leaderboard(stop, undisturbed, tmp_path):
    first = relief("run", *OPTIONS, "--store", tmp_path, "--workers", 2, start_new_session=True)
    store, until = Store(tmp_path), time.monotonic() + 200
    while len(list(tmp_path.glob("jobs/*/result.json"))) < 3 and time.monotonic() < until:
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.05)
    os.kill(first.pid, stop)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == (130 if stop == signal.SIGINT else -signal.SIGKILL), output
    if stop == signal.SIGINT:
        assert "the same command goes on" in output
    finish(relief("run", *OPTIONS, "--store", tmp_path, "--workers", 2))
    assert leaderboard(tmp_path) == leaderboard(undisturbed)
    assert not list(tmp_path.glob("work/*/result.json"))
    assert {r.status for r in store.results()} == {DONE}


def test_two_launches_on_one_store_at_the_same_time_end_with_one_result_a_cell(
    undisturbed, tmp_path
):
    launches = [relief("run", *OPTIONS, "--store", tmp_path, "--workers", 1) for _ in range(2)]
    for launch in launches:
        finish(launch)
    assert leaderboard(tmp_path) == leaderboard(undisturbed)
    assert len(list(tmp_path.glob("jobs/*"))) == len(list(Path(undisturbed).glob("jobs/*")))
