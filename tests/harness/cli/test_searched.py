"""A sweep as `relief status` and its live display show it, from files alone."""

import io
import json
import os
import signal
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.cli import searched, watch
from harness.store import Store, write_json
from harness.store.at_work import lock_of
from harness.store.sweeps import SweepFolder
from tests.harness.cli.test_cli import relief

NAME = "found-12ab34cd"


def trial(name, status, value, **about):
    found = {"id": name, "status": status, "settings": f"das3d.p_d={value}", "values": {}}
    found |= {"reason": "", "started": 1.7e9, "ended": None, "cells": [], "of": 2, "jobs": []}
    return found | {"trained": 2.0, "means": {"i_auroc": value}} | about


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    folder = SweepFolder(made, NAME)
    sweep = {"modes": {"i_auroc": "max"}, "objective": {"metrics": ["i_auroc"]}}
    about = {"id": NAME, "name": "found", "started": 1.7e9, "ended": None, "sweep": sweep}
    folder.write(about | {"points": 16, "order": ["c", "b", "a"]})
    folder.write_trial(trial("default", "done", 0.5, settings="unchanged settings"))
    folder.write_trial(trial("a", "done", 0.75))
    folder.write_trial(trial("b", "stopped", 0.25, trained=0.3))
    at_work = {"trained": 1.4, "jobs": [["e" * 16, True, 0.0]]}
    folder.write_trial(trial("c", "running", 0.625, **at_work))
    progress = {"phase": "train", "step": 40, "total": 100, "loss": 0.5}
    made.work("e" * 16)
    write_json(made.progress_file("e" * 16), progress)
    return made


def shown(store):
    text = io.StringIO()
    Console(file=text, width=160).print(searched.picture(store, NAME))
    return text.getvalue()


def test_a_running_sweep_says_what_its_trials_do_under_their_numbers(store):
    with lock_of(store, NAME).hold(timeout=0):
        text = shown(store)
    assert "running; trials: 1 done, 1 running, 1 stopped early" in text
    assert "2 of 16" in text
    assert (
        "best so far: trial 3 (das3d.p_d=0.75), I-AUROC 75.0 %; the unchanged settings have 50.0 %"
        in text
    )
    row = next(line for line in text.splitlines() if "train 40/100, loss 0.5" in line)
    assert row.split()[0] == "1" and "1.4 of 2" in row


def test_a_running_sweep_says_when_its_trials_should_have_ended(store):
    folder, now = SweepFolder(store, NAME), time.time()
    assert "left" not in shown(store)  # nothing runs
    for name, state, ended in (("a", "done", 100), ("b", "stopped", 140), ("c", "running", None)):
        began = {"started": now - 200, "ended": now - 200 + ended if ended else None}
        folder.write_trial(trial(name, state, 0.5) | began)
    with lock_of(store, NAME).hold(timeout=0):
        assert "2 of 16, about 26 min left" in shown(store)  # 13 more of 2 min, one at a time
        left = searched.plain(store, NAME)["left_s"]
    assert left == pytest.approx(13 * 120, abs=5)


def test_status_knows_a_sweep_by_the_beginning_of_its_name(store, capsys, monkeypatch):
    where = ("--store", store.path)
    for more in ((), ("--watch",)):  # of one that does not run, a picture
        code, out, _ = relief(capsys, monkeypatch, "status", "found", *more, *where)
        assert code == 0 and "interrupted: the same `relief sweep` goes on" in out
    code, out, _ = relief(capsys, monkeypatch, "status", *where)
    assert code == 0 and NAME in out and "I-AUROC 75.0 %" in out
    code, out, _ = relief(capsys, monkeypatch, "status", NAME, "--json", *where)
    said = json.loads(out)
    assert said["best"] == 0.75 and said["stopped"] == 1 and len(said["trials"]) == 4
    folder = SweepFolder(store, NAME)
    folder.write(folder.known_record | {"ended": 1.7e9 + 60})
    code, out, _ = relief(capsys, monkeypatch, "status", NAME, *where)
    assert code == 0 and "ended 2023-11-1" in out and "interrupted" not in out


def test_the_table_of_sweeps_breaks_no_word_in_80_columns(store, capsys, monkeypatch):
    folder = SweepFolder(store, "das3d_simulation-12ab34cd")
    folder.write(SweepFolder(store, NAME).known_record | {"id": folder.id})
    folder.write_trial(trial("a", "done", 0.75))
    folder.write_trial(trial("b", "failed", 0.25))
    _, out, _ = relief(capsys, monkeypatch, "status", "--store", store.path, columns=80)
    row = next(line for line in out.splitlines() if folder.id in line)
    assert "2 of 16, 1" in row and "interrupted" in row and "failed" in out.split()


def test_status_without_a_name_shows_the_trials_of_a_sweep_that_runs(store, capsys, monkeypatch):
    store.write_launch({"id": "older-1", "started": 1.6e9, "cells": []})
    store.write_launch({"id": "later-1", "started": 1.8e9, "cells": []})
    where = ("--store", store.path)
    _, before, _ = relief(capsys, monkeypatch, "status", *where)
    assert "train 40/100" not in before
    with lock_of(store, NAME).hold(timeout=0):
        _, out, _ = relief(capsys, monkeypatch, "status", *where)
    row = next(line for line in out.splitlines() if "train 40/100, loss 0.5" in line)
    assert row.split()[0] == "1" and "2 of 16" in out and "later-1" in out


@pytest.mark.parametrize(
    ("at_work", "launches", "shown"),
    [
        (NAME, {"later-1": 1.8e9}, NAME),
        (NAME, {}, NAME),
        ("older-1", {"older-1": 1.6e9, "later-1": 1.8e9}, "older-1"),
        (None, {"older-1": 1.6e9}, NAME),
        (None, {"older-1": 1.6e9, "later-1": 1.8e9}, "later-1"),
    ],
)
def test_a_watch_without_a_name_shows_what_is_at_work_or_began_last(
    store, capsys, monkeypatch, at_work, launches, shown
):
    for name, started in launches.items():
        store.write_launch({"id": name, "started": started, "cells": []})
    held = ExitStack()
    if at_work:
        held.enter_context(lock_of(store, at_work).hold(timeout=0))
    clock = SimpleNamespace(sleep=lambda s: held.close(), time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(searched, "time", clock)
    code, out, err = relief(capsys, monkeypatch, "status", "--watch", "--store", store.path)
    assert code == 0, err
    assert [name for name in (NAME, "older-1", "later-1") if name in out] == [shown]


def test_ctrl_c_ends_the_watch_of_a_sweep_and_says_that_it_goes_on(store, capsys, monkeypatch):
    clock = SimpleNamespace(sleep=lambda s: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr(searched, "time", clock)
    with lock_of(store, NAME).hold(timeout=0):
        code, out, err = relief(capsys, monkeypatch, "status", "--watch", "--store", store.path)
    assert code == 0 and "train 40/100" in out and f"{NAME} goes on" in err


def test_the_live_display_survives_a_file_that_cannot_be_read(store, monkeypatch):
    text = io.StringIO()
    console = Console(file=text, width=160, force_terminal=True)
    monkeypatch.setattr(searched, "EVERY_S", 0.05)
    monkeypatch.setattr(searched, "console", console)
    with searched.live(store, NAME):
        monkeypatch.setattr(searched, "picture", lambda *_: (_ for _ in ()).throw(OSError))
    assert "best so far" in text.getvalue()
