"""Single entries of lists: on the command line, in variants and in searches."""

import pytest

from harness.planning import config, space
from harness.planning.config import ConfigError
from harness.planning.entries import filled, nested
from tests.harness.conftest import TINY, planned


@pytest.mark.parametrize("key", ["das3d.p_z[1]", "das3d.p_z.1"])
def test_one_entry_changes_and_the_others_stay(key):
    plain = config.load(str(TINY)).options["das3d"].p_z
    changed = config.load(str(TINY), [f"{key}=0.75"]).options["das3d"].p_z
    assert tuple(changed) == (plain[0], 0.75) and plain[1] != 0.75


def test_a_list_that_the_configuration_gives_is_changed_there():
    given = ["dbrn.loss.weights=[1, 2, 3, 4]", "dbrn.loss.weights[2]=9"]
    assert tuple(config.load(str(TINY), given).options["dbrn"].loss.weights) == (1, 2, 9, 4)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("das3d.p_z[2]=0.5", r"das3d.p_z has no entry \[2\]: its entries are \[0\] to \[1\]"),
        ("das3d.p_z[x]=0.5", r"p_z is a list: .* p_z\[0\]"),
        ("das3d.p_z[0]=high", r"das3d\.p_z\[0\]: 'high' is no number"),
        ("das3d.p_z[0]=null", r"das3d\.p_z\[0\]: None is no number"),
        ("dbrn.swin.depths[1]=1.5", r"dbrn\.swin\.depths\[1\]: 1.5 is no whole number"),
        ("das3d.p_d[0]=0.5", r"das3d\.p_d is a single value"),
        ("das3d.p_z[0][0]=1", r"das3d\.p_z\[0\] is a single value"),
        ("das3d.skew.h[0]=3", r"das3d\.skew\.h has no list"),
        ("das3d.nothing[0]=1", "das3d.nothing: unknown key"),
    ],
)
def test_entries_that_are_none_are_refused_by_name(override, said):
    with pytest.raises(ConfigError, match=said):
        config.load(str(TINY), [override])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("das3d.p_z=[0.95,0.3]", r"das3d\.p_z is a range from 0.95 down to 0.3; .* 0 and 1"),
        ("das3d.p_z[1]=2", r"das3d\.p_z\[1\] is 2; it must lie within 0 and 1"),
        ("das3d.beta[1]=.nan", r"das3d\.beta\[1\] is nan"),
        ("das3d.skew.sigma[0]=0", r"das3d\.skew\.sigma\[0\] is 0; .* 0\.01 and 1000"),
        ("das3d.perlin.rotation_deg[0]=-720", r"das3d\.perlin\.rotation_deg\[0\] .* -360 and 360"),
        ("dbrn.sim.perlin.rotation_deg=[9,-9]", r"dbrn\.sim\.perlin\.rotation_deg is a range"),
        ("dbrn.dropout.rates[1]=4", r"dbrn\.dropout\.rates\[1\] is 4"),
        ("3dsr.anomaly.strength=[0.9,0.3]", r"3dsr\.anomaly\.strength is a range"),
        ("3dsr.rgb.anomaly.strength[0]=0.01", r"3dsr\.rgb\.anomaly\.strength\[0\] .* 0\.05 and 1"),
        ("3dsr.rgb.upsampler.beta[1]=3", r"3dsr\.rgb\.upsampler\.beta\[1\] is 3"),
        ("shape_guided.train.near_share=2", r"shape_guided\.train\.near_share is 2"),
    ],
)
def test_ranges_that_cannot_be_drawn_from_are_refused_by_key_with_what_is_allowed(override, said):
    with pytest.raises(ConfigError, match=said):
        config.settings_of(override.partition(".")[0], [override])


def test_an_entry_makes_the_key_that_the_whole_list_makes():
    keys = [planned(o).cells[0]["key"] for o in ("das3d.p_z[1]=0.7", "das3d.p_z=[0.1, 0.7]")]
    start = config.load(str(TINY)).options["das3d"].p_z[0]
    assert (keys[0] == keys[1]) == (start == 0.1)


def test_variants_and_searches_reach_entries(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(
        f"base: {TINY}\n"
        "config: {methods: [das3d]}\n"
        "space: {'das3d.p_z[1]': {kind: uniform, low: 0.5, high: 0.9}}\n"
        "search: {kind: tpe, trials: 2}\n"
        "objective: {on: test}\n"
    )
    sweep = space.load(str(file))
    point = sweep.point({"das3d.p_z[1]": 0.6})
    settings = config.typed(sweep.configured(point), "s").settings_of("das3d", "swept")
    assert settings.p_z[1] == 0.6
    file.write_text(file.read_text().replace("p_z[1]", "p_z[5]"))
    with pytest.raises(ConfigError, match=r"p_z has no entry \[5\]"):
        space.load(str(file))


def test_nothing_given_is_changed():
    base = {"a": [1, 2], "b": {"c": [[1, 2], [3, 4]]}}
    assert filled(base, nested("b.c[1][0]", 9)) == {"a": [1, 2], "b": {"c": [[1, 2], [9, 4]]}}
    assert base == {"a": [1, 2], "b": {"c": [[1, 2], [3, 4]]}}
    assert filled(base, {}) == base
