"""How published values compare with ours: the rules, and what they say of all values."""

from collections import Counter
from types import SimpleNamespace

import pytest

from reports.numbers import comparison as module
from reports.numbers.comparison import INFERRED, OTHER, SAME, comparison
from reports.numbers.published import published_cells
from reports.page.studies import ours_only


def cell(**changes):
    known = {"paper": "m3dm", "table": "Table 1", "dataset": "mvtec3d", "setting": "rgb+3d"}
    known |= {"method_key": "m3dm", "variant": "", "metric": "i_auroc"}
    return SimpleNamespace(**known | changes)


def test_every_rule_is_of_values_that_are_printed_and_used():
    cells = list(ours_only(published_cells()).itertuples())
    for rule in module._rules():
        assert any(module._holds(rule, printed) for printed in cells), rule


def test_all_three_kinds_are_there_and_each_that_is_not_the_same_has_a_reason():
    found = [comparison(printed) for printed in ours_only(published_cells()).itertuples()]
    counts = Counter(one.compares for one in found)
    assert set(counts) >= {SAME, INFERRED} and sum(counts.values()) > 1600
    assert all(bool(one.reasons) == (one.compares != SAME) for one in found)


def test_a_result_without_the_authors_file_says_so():
    assert not any("the fusion is trained" in reason for reason in comparison(cell()).reasons)
    trained = comparison(cell(), inputs=("weights.rgb", "weights.point"))
    assert any("the fusion is trained" in reason for reason in trained.reasons)
    assert comparison(cell(setting="rgb"), inputs=()).compares == SAME
    assert comparison(cell()).given == ("weights.uff",)


def test_the_gravest_reason_counts(monkeypatch):
    empty = dict.fromkeys(module.NAMED, "") | {"without": ""}
    rules = (
        empty | {"compares": INFERRED, "reason": "a"},
        empty | {"compares": OTHER, "reason": "b", "metric": "fps|gmacs"},
    )
    monkeypatch.setattr(module, "_rules", lambda: rules)
    assert comparison(cell(metric="fps")) == module.Comparison(OTHER, ("b",))
    assert comparison(cell()) == module.Comparison(INFERRED, ("a",))


def test_a_rule_without_reason_is_refused(monkeypatch, tmp_path):
    file = tmp_path / "comparison.csv"
    file.write_text("source,compares,reason,without\nm3dm,inferred,,\n")
    monkeypatch.setattr(module, "FILE", file)
    module._rules.cache_clear()
    with pytest.raises(ValueError, match="needs one of same, inferred, other and a reason"):
        module._rules()
    module._rules.cache_clear()
