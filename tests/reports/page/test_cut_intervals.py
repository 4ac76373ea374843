"""An interval that a panel of the first screen has no room for says so."""

from dataclasses import replace

from reports.numbers.board import Board, Row, Score
from reports.page.answer import Panel, Scale


def panel(low, high):
    rows = (
        Row("m3dm", "", (), {}, Score(0.9, interval=(low, high)), 1),
        Row("dbrn", "", (), {}, Score(0.85, interval=(0.84, 0.86)), 2),
    )
    board = Board("parts", "rgb", "i_auroc", (), rows)
    return Panel(board, Scale.of([board]), None, {})


def test_an_interval_that_is_cut_at_an_end_of_the_scale_is_told():
    short, long = panel(0.88, 0.95), panel(0.3, 0.95)
    assert short.uncut and not long.uncut
    assert long.scale.cut((0.3, 0.95)) == (True, False)
    assert long.scale.cut(None) == (False, False)
    assert replace(long, scale=None).uncut
