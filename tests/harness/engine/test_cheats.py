"""Nothing that a method is given tells normal from defective: a cheating one is at chance."""

import json

import numpy as np
import pytest

import methods
from harness.data.blind import blind
from harness.engine import runners
from harness.store import Store
from tests.harness.conftest import planned, run
from tests.harness.engine.cheats import CLUES, GOOD, PER_DEFECT

DEFECTIVE = 4 * PER_DEFECT
# Standard deviation of the AUROC of scores that know nothing (Mann-Whitney)
CHANCE = float(np.sqrt((GOOD + DEFECTIVE + 1) / (12 * GOOD * DEFECTIVE)))


@pytest.fixture(scope="module")
def cheated(tmp_path_factory):
    """The store in which the cheating method has run on two categories; -> scores by clue."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods.METHODS, "cheat", "tests.harness.engine.cheats:Cheat")
        store = Store(tmp_path_factory.mktemp("cheat"))
        yield store, cells(store)


def cells(store, clues=CLUES, seed=0):
    entries = ",".join(f"cheat/{clue}" for clue in clues)
    plan = planned(
        f"methods=[{entries}]",
        f"seeds=[{seed}]",
        "datasets.synthetic.categories=[cookie,dome]",
        f"datasets.synthetic.synthetic.good={GOOD}",
        f"datasets.synthetic.synthetic.per_defect={PER_DEFECT}",
    )
    assert not run(plan, store).failures
    return [cell | {"record": store.result(cell["key"])} for cell in plan.cells]


WIDE = 3.3  # standard deviations: 99.9 %, since addresses are drawn anew in every run


@pytest.mark.parametrize("clue", CLUES)
def test_a_method_that_cheats_is_at_chance(cheated, clue):
    found = [c["record"] for c in cheated[1] if c["variant"] == clue]
    assert [r.counts["test"] - r.counts["anomalous"] for r in found] == [GOOD] * 2
    values = [record.metrics["i_auroc"] for record in found]
    for value in values:
        assert abs(value - 0.5) < WIDE * CHANCE
    assert abs(np.mean(values) - 0.5) < WIDE * CHANCE / np.sqrt(2)


def test_the_cheats_would_work_on_what_the_files_say(cheated, monkeypatch):
    """The same method under the datasets' own ids and order: the test above can fail."""

    class Told:
        def __init__(self, samples):
            self.samples, self.names = samples, samples.ids
            self.rows = np.arange(len(samples))

        def __len__(self):
            return len(self.names)

    monkeypatch.setattr(runners, "blind", lambda samples, *_, **draw: Told(samples))
    told = cells(cheated[0], ["words"], seed=1)
    assert [cell["record"].metrics["i_auroc"] for cell in told] == [1.0, 1.0]


def test_without_the_salt_ids_and_order_would_tell(cheated, monkeypatch):
    """The same method under ids that can be made of a name: the look-up and the order can fail."""

    def unsalted(samples, category, salt, draw=True):
        return blind(samples, category, "", draw)

    monkeypatch.setattr(runners, "blind", unsalted)
    told = cells(cheated[0], ["looked_up", "drawn_again"], seed=1)
    assert [cell["record"].metrics["i_auroc"] for cell in told] == [1.0] * 4


def test_the_salt_is_in_nothing_that_a_method_is_given(cheated):
    """Neither in its run nor in its samples, with all that their objects hold."""
    store, found = cheated
    for record in (cell["record"] for cell in found):
        salt = store.finished(record.spec.needs.named["view"]).spec.data
        look = store.folder(record.spec.needs.stages["look"]) / "look.json"
        given = json.loads(look.read_text())["given"]
        assert len(salt) >= 8 and salt not in given and "checkpoint_every_s" in given


def test_results_lie_under_the_real_ids_in_the_order_of_the_files(cheated):
    store, found = cheated
    cell = next(c for c in found if c["variant"] == "place")
    scores = cell["record"].scores()
    ids = scores["id"].to_pylist()
    assert ids == sorted(ids) and all(id.startswith("test/") for id in ids)
    assert [id.split("/")[1] for id in ids] == scores["defect"].to_pylist()
    assert sorted(scores["score"].to_pylist()) == list(range(len(ids)))  # each in its own place
    look = cell["record"].spec.needs.stages["look"]
    said = json.loads((store.folder(look) / "look.json").read_text())
    assert len(said["place"]) == len(ids) and not set(said["place"]) & set(ids)


def test_no_array_that_is_given_has_the_name_of_a_file(cheated):
    store, found = cheated
    for record in (cell["record"] for cell in found):
        said = store.folder(record.spec.needs.stages["look"]) / "look.json"
        assert json.loads(said.read_text())["files"] == [""] and record.notes["files"] == ""
