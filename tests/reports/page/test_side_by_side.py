"""Reports on one store at the same time: nobody's file is taken away, whoever wins."""

import multiprocessing
from pathlib import Path

import pandas as pd
import pytest

from harness.store import Store
from reports.page import render
from reports.page.render import write_report
from reports.page.sweeps import write_sweep
from tests.reports.fake_store import build_launch

ONE = dict(
    methods=(("das3d", ""),), settings=("rgb",), categories=("cookie",), seeds=(0,), arrays=False
)
PROCESSES, ROUNDS = 3, 2


def bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def sweep_record():
    domain = {"kind": "uniform", "low": 0.0, "high": 1.0, "values": None, "log": False}
    trial = dict(
        id="default", number=0, settings="unchanged", status="done", reason="", values={}, of=1
    )
    trial |= dict(started=1.0, ended=2.0, means={"i_auroc": 0.5})
    trial["cells"] = [{"scores": {"i_auroc": 0.5}}]
    sweep = dict(
        space={"das3d.p_d": domain},
        modes={"i_auroc": "max"},
        objective={"metrics": ["i_auroc"], "on": "validation"},
    )
    record = dict(id="s", name="s", entry="das3d", best="default", front=["default"], sweep=sweep)
    return record, [trial]


def report(store: Store, launch: dict) -> None:
    write_report(store, launch, store.path / "reports" / launch["id"])


def sweep(store: Store, launch: dict) -> None:
    write_sweep(*sweep_record(), store.path / "reports" / "sweep")


def _write(write, path, launch, barrier, told):
    died = []
    barrier.wait()
    for _ in range(ROUNDS):
        try:
            write(Store(path), launch)
        except Exception as error:
            died.append(f"{type(error).__name__}: {error}")
    told.put(died)


@pytest.mark.parametrize("write", [report, pytest.param(sweep, marks=pytest.mark.slow)])
def test_reports_at_once_end_as_a_report_alone(tmp_path, write):
    store, launch = build_launch(tmp_path / "store", **ONE)
    write(store, launch)
    alone = bytes_of(store.path / "reports")
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(target=_write, args=(write, store.path, launch, barrier, told))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    assert [told.get(timeout=300) for _ in processes] == [[]] * PROCESSES
    for process in processes:
        process.join()
    assert bytes_of(store.path / "reports") == alone


def test_a_table_may_be_written_while_another_report_writes_it(tmp_path, monkeypatch):
    table, path, real = (
        pd.DataFrame({"a": [1]}),
        tmp_path / "cells.parquet",
        pd.DataFrame.to_parquet,
    )
    others = [lambda: render._write_parquet(path, table)]

    def to_parquet(self, target):
        real(self, target)
        if others:
            others.pop()()

    monkeypatch.setattr(pd.DataFrame, "to_parquet", to_parquet)
    render._write_parquet(path, table)
    assert not others and pd.read_parquet(path).equals(table)
    assert [file.name for file in tmp_path.iterdir()] == ["cells.parquet"]


def test_a_figure_that_another_report_removed_is_no_trouble(tmp_path, monkeypatch):
    old = tmp_path / "old.svg"
    old.write_text("")
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [old, tmp_path / "gone.svg"])
    render._write_figures(tmp_path, {"new.svg": "<svg/>"})
    assert not old.exists() and (tmp_path / "new.svg").exists()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No power cut in here, and syncing is slow."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
