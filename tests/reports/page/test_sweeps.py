"""The page of a sweep: its trials, and what they took."""

import io
import math

import pytest
from rich.console import Console

from harness.cli.searched import outcome
from harness.planning.space import describe
from harness.store.sweeps import DEFAULT
from reports.numbers.gain import gain, verdict
from reports.page.figures import Axis
from reports.page.sweeps import (
    counts_text,
    effort_text,
    outcome_text,
    trials_frame,
    write_sweep,
)
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
    whole = effort_text(trials[:1])
    assert whole == "Trainings took 100 steps, all jobs 0.5 GPU-hours."  # nothing was saved
    page = write_sweep(record, trials, tmp_path).read_text()
    assert text in page and "0.2 of 1" in page
    frame = trials_frame(record, trials)
    assert list(frame["cells"]) == [1, 0.2] and list(frame["saved_steps"]) == [0, 80]
    assert outcome(record, trials).row_count == 2


def test_sweeps_of_earlier_versions_have_a_page(tmp_path):
    record, trials = sweep_record()
    assert effort_text(trials) == ""
    assert "1 of 1" in write_sweep(record, trials, tmp_path).read_text()


def scored(number, scores, **about):
    cells = [{"scores": {"i_auroc": score}} for score in scores]
    trial = {"id": str(number), "number": number, "settings": f"point {number}", "values": {}}
    trial |= {"status": "done", "reason": "", "of": len(scores), "cells": cells, "started": 1.0}
    return trial | {"means": {"i_auroc": sum(scores) / len(scores)}} | about


def test_a_best_point_of_few_cells_is_said_not_to_be_separable():
    record, _ = sweep_record()
    trials = [scored(0, [0.5, 0.6]), scored(1, [0.7, 0.9])]
    record |= {"best": "1", "front": ["1"]}
    text = outcome_text(record, trials)
    assert "+25.0 points is not separable from chance: 2 cells tell too little" in text
    assert math.isnan(gain(record, trials[1], trials[0]).low)


def test_a_gain_has_an_interval_and_counts_only_as_the_best_of_its_points(tmp_path):
    record, _ = sweep_record()
    usual = [0.50, 0.52, 0.48, 0.51, 0.49, 0.50, 0.53, 0.47]
    better = [0.60, 0.63, 0.57, 0.62, 0.58, 0.61, 0.62, 0.58]
    trials = [scored(0, usual), scored(1, better)]
    found = gain(record, trials[1], trials[0])
    assert found.mean == pytest.approx(0.10125) and found.p == 2 / 2**8
    assert found.low < found.mean < found.high and found.low > 0.08
    assert "over 8 cells; p = 0.0078 as the best of 1 points" in verdict(record, trials[1], trials)
    many = [*trials, *(scored(n, usual) for n in range(2, 9))]
    assert "not separable" in verdict(record, trials[1], many)  # 8 x 0.0078 is above 0.05
    record |= {"best": "1", "front": ["1"]}
    frame = trials_frame(record, trials)
    assert frame["gain_low"][1] == found.low and frame["gain"][0] == 0
    page = write_sweep(record, trials, tmp_path).read_text()
    assert "Over unchanged" in page and "+10.1 [+9." in page and "I-AUROC, %" in page
    shown = io.StringIO()
    Console(width=160, file=shown).print(outcome(record, trials))
    assert "+10.1 [+9." in shown.getvalue()


def test_less_is_better_where_the_metric_says_so():
    record, _ = sweep_record()
    record["sweep"]["modes"] = {"i_auroc": "min"}
    trials = [scored(0, [0.5, 0.6]), scored(1, [0.4, 0.4])]
    assert gain(record, trials[1], trials[0]).mean == pytest.approx(0.15)


def test_tables_round_what_was_drawn_and_lose_nothing_in_80_columns(tmp_path):
    record, _ = sweep_record()
    domain = record["sweep"]["space"]["das3d.p_d"]
    record["sweep"]["space"]["das3d.skew.sigma"] = domain | {"values": [[0.1, 0.2], [0.3, 1.0]]}
    values = {"das3d.p_d": 0.1 + 0.2, "das3d.skew.sigma": [0.0123456789, 1e-4], "das3d.n": 12}
    settings = describe(values)
    assert settings == "das3d.p_d=0.3 das3d.skew.sigma=[0.01235, 0.0001] das3d.n=12"
    trials = [
        scored(0, [0.5] * 6, id=DEFAULT, settings="unchanged settings"),
        scored(1, [0.5, 0.6, 0.7, 0.8, 0.9, 0.9], values=values, settings=settings),
    ]
    record |= {"best": "1", "front": ["1"], "id": "a_sweep_of_some_length-0123abcd"}
    shown = io.StringIO()
    Console(width=80, file=shown).print(outcome(record, trials))
    text = shown.getvalue()
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    words = set(text.split())
    assert {"73.3", "6/6", "done", "+23.3", "das3d.p_d=0.3", "das3d.n=12"} <= words
    page = write_sweep(record, trials, tmp_path).read_text()
    assert ">0.3</td>" in page and ">[0.01235, 0.0001]</td>" in page
    assert 'data-v="0.30000000000000004"' in page  # by which it is sorted
    assert "0.30000000000000004" in (tmp_path / "trials.csv").read_text()


def test_the_count_of_trials_has_that_of_the_unchanged_settings():
    trials = [scored(0, [0.5], id=DEFAULT), scored(1, [0.5]), scored(2, [0.5], status="stopped")]
    text = "2 trials (1 done, 1 stopped), and trial 0 with the unchanged settings (done)"
    assert counts_text(trials) == text


def test_costs_have_four_digits_and_their_names():
    record, _ = sweep_record()
    record["sweep"]["objective"]["metrics"] = ["fit_s"]
    record["sweep"]["modes"] = {"fit_s": "min"}
    trials = [scored(0, [0]), scored(1, [0])]
    for trial, seconds in zip(trials, (1234.5678, 0.98765432)):
        trial["cells"] = [{"scores": {"fit_s": seconds}}]
        trial["means"] = {"fit_s": seconds}
    record |= {"best": "1", "front": ["1"]}
    text = outcome_text(record, trials)
    assert "fit_s 0.9877; the unchanged settings have 1235. The gain of +1234 is not" in text


def test_whole_numbers_have_whole_ticks():
    assert Axis("trial", 0, 9.5, whole=True).ticks() == [0, 5]
    assert Axis("trial", 0, 2.5, whole=True).ticks() == [0, 1, 2]
    assert Axis("share", 0, 9.5).ticks() == [0, 2.5, 5, 7.5]
