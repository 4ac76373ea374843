import json
from dataclasses import replace

import numpy as np
import pytest

from harness.store import write_json
from reports.forms.text import lead_text
from reports.numbers.evidence import read_evidence
from reports.numbers.frame import results_frame
from reports.numbers.leaderboard import leaderboard_csv, leaderboards

VALUES = {  # (method, category, seed): I-AUROC
    ("das3d", "cookie", 0): 0.9,
    ("das3d", "cookie", 1): 0.8,
    ("das3d", "dome", 0): 0.7,
    ("das3d", "dome", 1): 0.4,
    ("m3dm", "cookie", 0): 0.6,
    ("m3dm", "cookie", 1): 0.6,
    ("m3dm", "dome", 0): 0.5,
    ("m3dm", "dome", 1): 0.9,
}
TWO = {"methods": [("das3d", ""), ("m3dm", "")], "settings": ["rgb"], "arrays": False}


def given(values=VALUES, **others):
    troubles = {
        (m, "", "rgb", c, s): {"metrics": {"i_auroc": v}} for (m, c, s), v in values.items()
    }
    return TWO | {"troubles": others | troubles}


def boards_of(store, launch):
    frame = results_frame(store, launch)
    return leaderboards(frame, read_evidence(store, frame))


def board(store, launch, metric="i_auroc"):
    return next(b for b in boards_of(store, launch) if b.metric == metric)


def row(of, method):
    return next(r for r in of.rows if r.method == method)


def test_means_and_spread_equal_those_computed_by_hand(build):
    found = board(*build(**given()))
    first = row(found, "das3d")
    assert first.scores["cookie"].value == pytest.approx(0.85)
    assert first.scores["cookie"].std == pytest.approx(0.1 / 2**0.5)
    assert first.mean.value == pytest.approx((0.85 + 0.55) / 2)
    assert first.mean.std == pytest.approx((0.8 - 0.6) / 2**0.5)  # seeds' means: 0.8 and 0.6
    assert first.mean.seeds == 2 and first.rank == 1 and found.rows[0] is first
    assert row(found, "m3dm").mean.value == pytest.approx(0.65) and row(found, "m3dm").rank == 2
    assert found.best() == first.mean.value and found.best("dome") == pytest.approx(0.7)
    assert found.lead.by == pytest.approx(0.05)


def test_one_seed_has_no_spread(build):
    found = row(board(*build(**TWO, seeds=[0])), "das3d")
    assert found.mean.std is None and found.scores["cookie"].std is None


@pytest.mark.parametrize("status", ["failed", "pending", "timeout", "out_of_memory", "skipped"])
def test_a_cell_without_a_result_takes_the_mean_and_the_rank_away(build, status):
    found = board(*build(**TWO, troubles={("das3d", "", "rgb", "dome", 1): status}))
    lacking = row(found, "das3d")
    assert lacking.scores["dome"].value is None and lacking.scores["dome"].status == status
    assert lacking.scores["cookie"].value is not None
    assert lacking.mean.value is None and lacking.rank is None and lacking.interval is None
    assert lacking.mean.note == "1 of 2 categories" and found.rows[-1] is lacking
    assert row(found, "m3dm").rank == 1 and found.lead is None
    assert lead_text(found.lead, found.rows) == "M3DM is the only complete row."


def test_a_category_that_only_others_were_asked_for_is_not_left_out_of_the_mean(build):
    store, launch = build(**TWO)
    cells = [c for c in launch["cells"] if (c["method"], c["category"]) != ("das3d", "dome")]
    lacking = row(board(store, launch | {"cells": cells}), "das3d")
    assert lacking.scores["dome"].status == "absent" and lacking.mean.status == "incomplete"


def test_an_undefined_metric_is_undefined_and_not_zero(build):
    troubles = {("das3d", "", "rgb", "dome", None): {"metrics": {"i_auroc": None, "p_auroc": 0.5}}}
    store, launch = build(**TWO, troubles=troubles)
    lacking = row(board(store, launch), "das3d")
    assert lacking.scores["dome"].status == "undefined" and lacking.mean.value is None
    assert row(board(store, launch, "p_auroc"), "das3d").mean.value is not None


def test_the_interval_holds_the_mean_and_is_the_same_in_any_company(build):
    store, launch = build(**TWO)
    together = row(board(store, launch), "das3d")
    assert together.interval[0] < together.mean.value < together.interval[1]
    alone = [c for c in launch["cells"] if c["method"] == "das3d"][::-1]
    assert row(board(store, launch | {"cells": alone}), "das3d").interval == together.interval


def test_csv_bytes_depend_on_the_results_alone(build):
    store, launch = build(**TWO)
    before = leaderboard_csv(boards_of(store, launch))
    rng = np.random.default_rng(0)
    for cell in launch["cells"]:
        result = dict(store.result(cell["key"]).values)
        result |= {"started": rng.random(), "ended": rng.random() * 1e9, "attempt": 7, "log": ["x"]}
        result["timings"] = {name: rng.random() for name in result["timings"]}
        result["metrics"] = dict(reversed(result["metrics"].items()))
        (store.folder(cell["key"]) / "result.json").write_text(json.dumps(result))
    shuffled = [launch["cells"][i] for i in rng.permutation(len(launch["cells"]))]
    path = store.path / "launches" / "fake-00000000.json"
    write_json(path, launch | {"cells": shuffled, "started": 1})
    assert leaderboard_csv(boards_of(store, store.launches()[0])) == before


def test_csv_says_what_each_value_is_and_why_one_is_missing(build):
    choices = given()
    del choices["troubles"][("m3dm", "", "rgb", "dome", 1)]
    choices["troubles"][("m3dm", "", "rgb", "dome", 1)] = "failed"
    lines = leaderboard_csv(boards_of(*build(**choices))).splitlines()
    assert lines[0] == (
        "dataset,setting,method,variant,metric,protocol,category,value,std,seeds,status,"
        "low,high,group,below,published,difference,verdict,source,marks,"
        "difference_low,difference_high,difference_basis,tested_on,signature,inferred"
    )
    lines = [",".join(line.split(",")[:11]) for line in lines]
    assert lines[1:4] == [
        "synthetic,rgb,das3d,,i_auroc,common,cookie,0.850000,0.070711,2,done",
        "synthetic,rgb,das3d,,i_auroc,common,dome,0.550000,0.212132,2,done",
        "synthetic,rgb,das3d,,i_auroc,common,mean,0.700000,0.141421,2,done",
    ]
    assert lines[5:7] == [
        "synthetic,rgb,m3dm,,i_auroc,common,dome,,,1,failed",
        "synthetic,rgb,m3dm,,i_auroc,common,mean,,,1,incomplete",
    ]


@pytest.mark.parametrize(
    "interval, group, told",
    [
        (
            (-0.01, 0.05),
            1,
            "95\u00a0% interval \u22121.0 to +5.0; the test images do not separate them",
        ),
        ((0.01, 0.05), 1, "taken alone the two are told apart, among all pairs of the table"),
        ((0.01, 0.05), 2, "+1.0 to +5.0; the test images separate them"),
    ],
)
def test_what_is_said_of_the_lead_is_what_the_groups_say(build, interval, group, told):
    found = board(*build(**TWO))
    first, second = (replace(r, group=g) for r, g in zip(found.rows[:2], (1, group)))
    assert told in lead_text(
        replace(found.lead, first=first, second=second, interval=interval), found.rows
    )
