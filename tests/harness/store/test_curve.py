import pytest

from harness.store.curve import Curve, read_curve
from methods.contract import Progress
from methods.validation import POINTS
from tests.harness.conftest import planned


def test_a_long_training_keeps_a_bounded_number_of_points_spread_over_it(tmp_path):
    curve, steps = Curve(tmp_path), 20_011
    for step in range(1, steps + 1):
        curve.add(Progress("train", step, steps, 1 / step))
    curve.write()
    (points,) = read_curve(tmp_path).values()
    assert [step for step, _ in points] == [*range(41, steps, 41), steps]
    assert len(points) <= POINTS + 1 and points[-1][1] == pytest.approx(1 / steps)


def test_the_points_are_the_same_steps_however_slow_the_machine_is(tmp_path):
    """Reports come by the clock, too; these are for the display."""
    slow, fast = Curve(tmp_path / "slow"), Curve(tmp_path / "fast")
    for step in range(1, 1001):
        slow.add(Progress("train", step, 1000, 1 / step))
        if step % 2 == 0:
            fast.add(Progress("train", step, 1000, 1 / step))
    assert slow.phases == fast.phases and len(slow.phases["train"]) == POINTS


def test_a_continued_training_replaces_the_steps_that_it_repeats(tmp_path):
    first = Curve(tmp_path)
    for step in (10, 20, 30):
        first.add(Progress("train", step, 100, 3.0))
    first.write()
    again = Curve(tmp_path)
    again.add(Progress("train", 15, 100, 2.0))  # the checkpoint was taken before
    again.add(Progress("tune", 1, 100, 1.0))
    again.write()
    assert read_curve(tmp_path) == {"train": [(10, 3.0), (15, 2.0)], "tune": [(1, 1.0)]}


def test_reports_without_a_loss_or_with_an_infinite_one_leave_nothing(tmp_path):
    curve = Curve(tmp_path)
    curve.add(Progress("features", 1, 2))
    curve.add(Progress("train", 1, 2, float("nan")))
    curve.write()
    assert not list(tmp_path.iterdir()) and read_curve(tmp_path) == {}


def test_a_job_leaves_the_losses_it_reported(tiny_store):
    trained, untrained = planned().cells
    curve = read_curve(tiny_store.folder(trained["key"]))
    assert curve["train"][-1][0] == 6 and curve["train"][-1][1] > 0
    assert read_curve(tiny_store.folder(untrained["key"])) == {}
