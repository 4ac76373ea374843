import json
import os
import re
import subprocess
import sys

import pytest

from harness.cli import app as cli
from harness.cli import terminal
from harness.store import Record, Store
from tests.harness.conftest import TINY, planned


def relief(capsys, monkeypatch, *arguments, columns=200):
    """Run the command in this process; -> exit code, stdout, stderr.

    columns: of the terminal; None: a pipe of which nobody has said
    """
    monkeypatch.setattr("sys.argv", ["relief", *map(str, arguments)])
    monkeypatch.setattr(terminal.console, "_width", columns or 80, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns or ""))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


def test_mistakes_are_one_message_and_exit_code_2(capsys, monkeypatch, tmp_path):
    for arguments, named in [
        (["run", "dmeo"], "demo"),
        (["run", "das3d.train.stepz=1"], "did you mean steps"),
        (["run", "--data", tmp_path / "nowhere"], "nowhere"),
        (["run", "--data", tmp_path], str(tmp_path.name)),
        (["run", "demo", "benchmark"], "one configuration at a time"),
        (["run", "benchmark"], "dataset"),
        (["status", "--store", tmp_path / "none"], "no launch"),
        (["report", "--store", tmp_path / "none"], "no launch"),
        (["ui", "--store", tmp_path / "none"], "mlflow.db"),
    ]:
        code, _out, err = relief(capsys, monkeypatch, *arguments)
        assert code == 2, arguments
        assert named in err.replace("\n", ""), err
        assert "Traceback" not in err
    assert not (tmp_path / "none").exists()


def test_running_a_finished_launch_again_only_reports(capsys, monkeypatch, tiny_store):
    code, out, err = relief(
        capsys, monkeypatch, "run", TINY, "--store", tiny_store.path, "--tracking", "none"
    )
    assert code == 0, err
    assert "0 jobs to do" in out and "leaderboard.html" in out.replace("\n", "")
    page = Store(tiny_store.path).path / "reports" / planned().launch_id / "leaderboard.html"
    assert page.read_text().startswith("<!doctype html>")


def test_a_report_is_written_again_only_if_something_changed(capsys, monkeypatch, tiny_store):
    from reports.page import render

    written, whole = [], render.write_report
    monkeypatch.setattr(render, "write_report", lambda *a: written.append(a) or whole(*a))
    again = ("run", TINY, "--store", tiny_store.path, "--tracking", "none")
    first = relief(capsys, monkeypatch, *again)
    written.clear()
    assert relief(capsys, monkeypatch, *again) == first and not written
    record = tiny_store.folder(planned().cells[0]["key"]) / "result.json"
    before = record.stat()
    os.utime(record, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert relief(capsys, monkeypatch, *again) == first and len(written) == 1
    (tiny_store.path / "reports" / planned().launch_id / "leaderboard.html").unlink()
    assert relief(capsys, monkeypatch, *again) == first and len(written) == 2


def test_a_run_with_nothing_to_do_imports_nothing_that_computes(tiny_store):
    code = (
        "import sys\nfrom harness.cli import app\n"
        f"sys.argv = ['relief', 'run', {str(TINY)!r}, '--store', {str(tiny_store.path)!r}]\n"
        "try: app.main()\nexcept SystemExit as ended: print('ended', ended.code)\n"
        "heavy = 'torch', 'ray', 'mlflow', 'pandas', 'scipy', 'cv2', 'matplotlib'\n"
        "print('imported', [name for name in heavy if name in sys.modules])"
    )
    for _ in range(2):  # the first may have to write the report, and MLflow's runs
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ended 0" in done.stdout, done.stderr
    assert "imported []" in done.stdout and "MLflow" in done.stdout


def test_plan_and_status_tell_what_is_done(capsys, monkeypatch, tiny_store):
    code, out, _ = relief(capsys, monkeypatch, "plan", TINY, "--store", tiny_store.path)
    assert code == 0 and "0 to do" in out
    code, out, _ = relief(
        capsys, monkeypatch, "plan", TINY, "seeds=[0,1]", "--store", tiny_store.path
    )
    assert "2 to do" in out
    code, out, _ = relief(capsys, monkeypatch, "status", "--store", tiny_store.path)
    assert code == 0 and planned().launch_id in out
    code, out, _ = relief(capsys, monkeypatch, "status", TINY, "--store", tiny_store.path)
    assert out.count("done") >= 4


def test_a_store_that_cannot_be_written_is_refused_before_anything_runs(
    capsys, monkeypatch, tmp_path
):
    (tmp_path / "file").write_text("")
    code, _, err = relief(capsys, monkeypatch, "run", TINY, "--store", tmp_path / "file" / "store")
    assert code == 2 and "--store" in err


def test_a_plan_explains_in_which_order_jobs_start_and_when_they_should_end(
    capsys, monkeypatch, tiny_store
):
    where = ("--store", tiny_store.path, "--explain", "--workers", 1)
    code, out, _ = relief(capsys, monkeypatch, "plan", TINY, "seeds=[0,1]", *where)
    assert code == 0 and "2 jobs" in out and "2 measured of jobs alike" in out
    assert "on 1 CPU and 0 GPUs" in out and "(1.00 of that)" in out
    code, out, _ = relief(capsys, monkeypatch, "plan", TINY, "resources.default.gpus=1", *where)
    assert code == 0 and "nothing to do" in out
    more = ("seeds=[0,1]", "resources.default.gpus=0.5", *where)
    code, _, err = relief(capsys, monkeypatch, "plan", TINY, *more, "--gpus", 0)
    assert code == 2 and "2 of 2 jobs fit on no node" in err
    assert "asks for 1 CPUs, 0.5 GPUs" in err and "the nodes have: 1 CPUs, 0 GPUs" in err
    code, out, _ = relief(capsys, monkeypatch, "plan", TINY, *more, "--gpus", 1)
    assert code == 0 and "-0 s" not in out


@pytest.mark.parametrize("more", [["--gpus", 8], ["--workers", 2], ["--memory", 64]])
def test_a_plan_for_another_machine_says_when_it_ends_there_and_by_what_that_is_known(
    capsys, monkeypatch, tiny_store, more
):
    where = ("plan", TINY, "seeds=[0,1]", "--store", tiny_store.path)
    _, plain, _ = relief(capsys, monkeypatch, *where)
    code, out, _ = relief(capsys, monkeypatch, *where, *more)
    assert code == 0 and "expected" in plain and "at least" not in plain
    assert "2 jobs" in out and "at least" in out
    assert "Durations: 2 measured of jobs alike." in out
    assert ("8 GPUs" in out) == ("CPUs are as here" in out) == ("--gpus" in more)
    _, out, _ = relief(capsys, monkeypatch, *where, *more, "--json")
    assert json.loads(out)["schedule"]["expected_by"]["measured"] == 2


def test_a_plan_as_json_tells_each_job_its_place_in_time_and_the_work(
    capsys, monkeypatch, tiny_store
):
    where = ("plan", TINY, "seeds=[0,1]", "--store", tiny_store.path, "--json")
    code, out, _ = relief(capsys, monkeypatch, *where)
    found = json.loads(out)
    todo = [job for job in found["jobs"] if job["pending"]]
    assert code == 0 and found["pending"] == len(todo) == 2 and found["cells"] == 4
    assert {(job["expected_by"], job["seed"], job["done"]) for job in todo} == {
        ("measured", 1, False)
    }
    code, out, _ = relief(capsys, monkeypatch, *where, "--explain", "--tflops", 10, "--workers", 1)
    found = json.loads(out)
    starts = [job["starts_s"] for job in found["schedule"]["jobs"]]
    assert len(starts) == 2 and starts == sorted(starts)
    assert found["schedule"]["ends_s"] >= found["schedule"]["least_s"] > 0
    assert found["work"]["tflops"] == 10 and not found["work"]["too_long"]


def test_an_order_counts_with_the_same_times_as_the_work_at_a_speed(capsys, monkeypatch, tmp_path):
    settings = ("methods=[das3d]", "settings=[rgb]", "resources.default.gpus=1")
    more = ("--store", tmp_path, "--explain", "--json", "--gpus", 1, "--tflops")
    took = []
    for tflops in (0.1, 0.2):
        _, out, _ = relief(capsys, monkeypatch, "plan", "demo", *settings, *more, tflops)
        found = json.loads(out)
        jobs = {job["key"]: job for job in found["schedule"]["jobs"]}
        cells = [job for job in found["jobs"] if job["method"] == "das3d" and job["pending"]]
        seconds = [jobs[job["key"]]["ends_s"] - jobs[job["key"]]["starts_s"] for job in cells]
        assert seconds == pytest.approx([job["expected_s"] for job in cells])
        assert {job["expected_by"] for job in cells if not job["variant"]} == {"model"}
        hours = sum(part["hours"] for part in found["work"]["gpu_hours"])
        assert sum(seconds) == pytest.approx(3600 * hours)
        took.append(sum(seconds))
    assert took[0] > 1.5 * took[1]


@pytest.mark.parametrize("columns", [80, None])
def test_a_plan_cuts_nothing_at_80_columns_and_in_a_pipe(capsys, monkeypatch, tiny_store, columns):
    for more in ([], ["--explain"]):
        where = ("plan", "demo", "--store", tiny_store.path, *more)
        _, out, _ = relief(capsys, monkeypatch, *where, columns=columns)
        assert "…" not in out and "rgb+3d" in out
        sentences = re.compile(r"\d|left out")  # which a terminal breaks as it likes
        rows = [row for row in out.splitlines() if not sentences.match(row)]
        assert max(map(len, rows)) <= (80 if columns else 200)


def test_a_plan_tells_the_quality_of_views_that_are_done(capsys, monkeypatch, tiny_store):
    told = {
        "quality": {"flags": {"object-lost": 3}},
        "background": {"chosen": "plane", "why": "all samples show it"},
    }
    monkeypatch.setattr(Record, "summary", property(lambda self: told))
    code, out, _ = relief(capsys, monkeypatch, "plan", TINY, "--store", tiny_store.path)
    assert code == 0 and "object-lost in 3 samples" in out
    assert "background=auto took plane, as all samples show it" in out
