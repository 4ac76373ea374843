"""The page of a sweep: its trials, and what they took."""

from reports.page.sweeps import effort_text, sweep_table, trials_frame, write_sweep
from tests.reports.page.test_side_by_side import sweep_record


def with_effort(gpu):
    record, (default,) = sweep_record()
    spent = {"steps": 100, "saved_steps": 0, "seconds": 3600.0, "saved_seconds": 0.0}
    spent |= {"gpu_seconds": 3600.0 * gpu, "saved_gpu_seconds": 0.0}
    default |= {"effort": spent, "trained": 1}
    ended = {"steps": 20, "saved_steps": 80, "seconds": 720.0, "saved_seconds": 2880.0}
    ended |= {"gpu_seconds": 720.0 * gpu, "saved_gpu_seconds": 2880.0 * gpu}
    stopped = default | {"id": "a", "number": 1, "status": "stopped", "cells": [], "trained": 0.2}
    return record, [default, stopped | {"effort": ended, "means": {"i_auroc": 0.4}}]


def test_the_page_says_what_early_ends_saved(tmp_path):
    record, trials = with_effort(gpu=0.5)
    text = effort_text(trials)
    assert "took 120 steps; trials that ended early saved 80 (40%)" in text
    assert "0.6 GPU-hours, and about 0.4 were saved" in text
    assert "1.2 job-hours, and about 0.8" in effort_text(with_effort(gpu=0)[1])
    page = write_sweep(record, trials, tmp_path).read_text()
    assert text in page and "0.2 of 1" in page
    frame = trials_frame(record, trials)
    assert list(frame["cells"]) == [1, 0.2] and list(frame["saved_steps"]) == [0, 80]
    assert sweep_table(record, trials).row_count == 2


def test_sweeps_of_earlier_versions_have_a_page(tmp_path):
    record, trials = sweep_record()
    assert effort_text(trials) == ""
    assert "1 of 1" in write_sweep(record, trials, tmp_path).read_text()
