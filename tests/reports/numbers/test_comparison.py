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
    assert not comparison(cell(setting="rgb"), inputs=()).given
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


def test_only_what_is_published_whole_is_the_same():
    """What each paper and its code leave open is told of every value that it concerns."""

    def told(**changes):
        return " ".join(comparison(cell(**changes)).reasons)

    guided = {"method_key": "shape_guided", "paper": "shape_guided", "metric": "aupro_0.3"}
    assert comparison(cell(**guided, setting="3d")).compares == SAME
    assert "racm_in1k" in told(**guided)
    assert "which cells are kept" in told(**guided, setting="rgb")
    assert "which cells are kept" not in told(
        **guided, setting="rgb", variant="shape_guided_rgb_only"
    )
    assert "which cells are kept" in told(**guided, variant="wo_shape_guided")
    assert "sparse SDF code" in told(**guided, variant="rgb_nn_sdf_nn")
    assert "half" in told(setting="rgb") and "point features" not in told(setting="rgb")
    assert "the code's" in told(method_key="3dsr") and "mask_rule" not in told(method_key="3dsr")
    assert "mask_rule" in told(method_key="3dsr", metric="p_auroc")
    assert "light and preparation" in told(method_key="das3d", dataset="eyecandies")
    assert "prints rates" in told(method_key="dbrn_ms")


def test_an_authors_file_is_missed_only_where_the_row_has_it():
    row = {"method_key": "3dsr", "paper": "3dsr", "table": "Table 5"}
    assert comparison(cell(**row)).given == ("dada.weights",)
    assert comparison(cell(**row, variant="no_perlin"), inputs=()).given == ()
    assert comparison(cell(method_key="dsr", setting="rgb")).given == ("rgb.dada.weights",)
    sdf = comparison(
        cell(method_key="shape_guided", setting="rgb", variant="shape_guided_rgb_only")
    )
    assert sdf.given == ("weights.sdf",)
