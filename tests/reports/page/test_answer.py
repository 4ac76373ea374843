"""The first screen: panels on one scale, with the papers, the baselines and the cost beside."""

import re

import pytest

from harness.store import COMMON
from methods.names import BASELINE
from reports.forms.words import INFERRED_SIGN
from reports.numbers import evidence
from reports.numbers.board import Board, Row, Score
from reports.numbers.cost import cost_frame
from reports.numbers.frame import results_frame
from reports.numbers.leaderboard import leaderboards
from reports.numbers.published import known_categories
from reports.page.answer import Panel, Scale, answer
from reports.page.pages import breakable
from reports.page.render import _environment, write_report
from tests.reports.fake_store import build_launch


def board(*means, metric="i_auroc", **of_baselines):
    rows = [Row(f"m{i}", "", (), {}, Score(mean)) for i, mean in enumerate(means)]
    for variant, (low, mean, high) in of_baselines.items():
        rows.append(Row(BASELINE, variant, (), {}, Score(mean, interval=(low, high))))
    return Board("d", "rgb", metric, (), tuple(rows), COMMON)


def test_every_method_lies_on_the_scale_that_the_panels_of_a_metric_share():
    scale = Scale.of([board(0.9, 0.7), board(0.4)])
    assert scale.place(0.9) == 100 and scale.place(0.4) == 0 and scale.holds(0.7)
    assert [label for _, label in scale.ticks] == ["40", "60", "80"]
    assert Scale.of([board(None)]) is None
    assert Scale.of([board(0.8)]).place(0.8) == pytest.approx(50)
    assert Scale.of([board(0.8, far=(0.3, 0.3, 0.3))]).place(0.3) == 0


def test_only_a_baseline_beyond_half_the_range_of_the_methods_lies_off_the_scale():
    near, far = (0.72, 0.74, 0.76), (0.67, 0.71, 0.75)
    scale = Scale.of([board(0.9, 0.78, near=near, far=far)])
    assert scale.holds(0.72) and not scale.holds(0.715)
    assert Scale.of([board(far=far)]).holds(0.67)


@pytest.mark.parametrize("low", [0.81, 0.61, 0.494])
def test_a_scale_has_two_labels_at_least(low):
    assert 2 <= len(Scale.of([board(0.99, low)]).ticks) <= 5


def test_of_a_baseline_off_the_scale_an_arrow_and_what_reaches_into_it_are_drawn():
    shown = board(0.9, 0.8, far=(0.5, 0.6, 0.85))
    panel = Panel(shown, Scale.of([shown]), 0.6, {})
    assert not panel.whole and panel.floor is None
    page = _environment().get_template("_answer.html.j2")
    text = page.render(answer={"d": [panel]}, place={panel.of: 0}, marks=[])
    row = text[text.index("Baseline (far)") : text.index("</tbody>")]
    reach = re.search(r'class="reach" x1="(.*?)%" x2="(.*?)%"', row)
    assert [float(end) for end in reach.groups()] == pytest.approx([0, 50])
    assert '<svg class="dot" x="0.0%"' in row and "<circle" not in row
    assert "far off the scale" in text[text.index("</table>") :]


def test_a_panel_has_its_best_baseline_and_the_cost_of_its_setting(build):
    methods = [("das3d", ""), ("baseline", "plane"), ("baseline", "colour")]
    store, launch = build(methods=methods, settings=["rgb", "3d"], seeds=[0], arrays=False)
    frame = results_frame(store, launch)
    cost = cost_frame(frame)
    boards = [b for b in leaderboards(frame) if b.metric == "i_auroc"]
    panels = answer(boards, cost)["synthetic"]
    assert [panel.board.setting for panel in panels] == ["rgb", "3d"]
    for panel in panels:
        means = {(r.method, r.variant): r.mean.value for r in panel.board.rows}
        assert panel.baseline == max(means["baseline", "plane"], means["baseline", "colour"])
        assert set(panel.cost) == set(methods)
        assert panel.scale == panels[0].scale
    other = cost.assign(device=["a", *["b"] * (len(cost) - 1)])
    assert not any(panel.cost for panel in answer(boards, other)["synthetic"])


def test_what_a_verdict_and_a_mark_rest_on_stands_in_the_table_and_is_explained_once(
    build, tmp_path, monkeypatch
):
    monkeypatch.setattr(evidence, "published_data", lambda *given: "mvtec3d")
    marked = {("das3d",): {"marks": []}, ("m3dm",): {"marks": ["random-init"]}}
    store, launch = build(
        methods=[("das3d", ""), ("m3dm", "")],
        settings=["rgb+3d"],
        categories=known_categories("mvtec3d"),
        arrays=False,
        demo=False,
        troubles=marked,
    )
    cells = [cell | {"dataset": "mvtec3d"} for cell in launch["cells"]]
    page = write_report(store, launch | {"cells": cells}, tmp_path).read_text(encoding="utf-8")
    panel = page[page.index('class="panel') : page.index("</table>")]
    assert '<span class="mark">random-init</span>' in panel
    assert "98.2" in panel and re.search(r"[+−]\d+\.\d ±\u2009\d+\.\d", panel)  # DAS3D, Table 1
    assert re.search(rf"[≈▲▼]{INFERRED_SIGN}", panel)
    legend = page[page.index('class="notes"') : page.index("mean over categories</h3>")]
    assert legend.count("DAS3D prints no optimiser") == 1
    assert legend.count("random weights instead") == 1


def test_names_break_where_their_parts_are_joined_and_stay_escaped():
    assert breakable("a/b_<c>") == "a/<wbr>b_<wbr>&lt;c&gt;"


def test_words_never_run_together(tmp_path):
    store, launch = build_launch(tmp_path / "s", seeds=[0], settings=["rgb"], categories=["a"])
    page = write_report(store, launch, tmp_path / "r").read_text(encoding="utf-8")
    text = re.sub(
        r"<(style|script)>.*?</\1>|<(pre|code|svg).*?</\2>|<[^>]+>", " ", page, flags=re.S
    )
    assert not re.findall(r"[a-z]{2}[.;][A-Z][a-z]+", text)
