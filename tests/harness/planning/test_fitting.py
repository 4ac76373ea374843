"""Values that fit give what OmegaConf gives, type for type; what does not fit is left to it."""

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

import methods
from harness.planning import config, space, structured, study
from harness.planning.fitting import Unfit, as_it_stands, fitted


@dataclass(frozen=True)
class Inner:
    rate: float = 1  # a whole number where OmegaConf makes a float of it
    pair: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f"rate is {self.rate}: give 0 or more")


@dataclass
class Required:
    title: str
    inner: Inner
    rates: list[float] = field(default_factory=lambda: [1, 2])


@dataclass
class Outer:
    name: str = "???"
    count: int = 3
    on: bool = False
    size: Optional[int] = None
    how: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    names: list[str] = field(default_factory=list)
    shares: tuple[float, ...] = ()
    parts: dict[str, Inner] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)
    any: Any = None


def by_omegaconf(schema, values):
    return structured._merged(schema, values, "", tuple)


def assert_same(a, b, where="it"):
    assert type(a) is type(b), f"{where}: {a!r}, {b!r}"
    if is_dataclass(a):
        for f in fields(a):
            assert_same(getattr(a, f.name), getattr(b, f.name), f"{where}.{f.name}")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for name in a:
            assert_same(a[name], b[name], f"{where}.{name}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


@pytest.mark.parametrize(
    "values",
    [
        {"name": "n"},
        {"name": "n", "count": 4, "on": True, "size": 5, "how": "b"},
        {"name": "n", "size": None, "inner": {"rate": 2, "pair": [1, 2.5]}},
        {"name": "n", "names": ["x", "y"], "shares": [1, 0.5, 3]},
        {"name": "n", "parts": {"p": {}, "q": {"rate": 0.5}}},
        {"name": "n", "free": {"a": {"b": [1, None, {"c": "d"}]}}, "any": [1.5, True]},
        {"name": "a # b: c", "any": "text"},
    ],
)
def test_values_that_fit_give_what_omegaconf_gives(values):
    assert_same(fitted(Outer, values), by_omegaconf(Outer, values))


def test_what_has_no_default_has_to_be_given():
    values = {"title": "t", "inner": {"rate": 2}}
    assert_same(fitted(Required, values), by_omegaconf(Required, values))
    for name in values:
        with pytest.raises(Unfit):
            fitted(Required, {name: values[name]})


def test_an_object_is_changed_as_omegaconf_changes_it():
    base = Outer("n", inner=Inner(3), names=["x"])
    for values in ({}, {"count": 1}, {"inner": {"pair": [3, 4]}}, {"names": []}):
        assert_same(fitted(base, values), by_omegaconf(base, values))
    assert fitted(base, {}).names is not base.names


@pytest.mark.parametrize(
    "values",
    [
        {},  # a name has to be given
        {"name": "${how}"},
        {"name": 3},
        {"name": "n", "count": "4"},
        {"name": "n", "count": 4.0},
        {"name": "n", "count": True},
        {"name": "n", "on": 1},
        {"name": "n", "how": "c"},
        {"name": "n", "size": "many"},
        {"name": "n", "inner": None},
        {"name": "n", "inner": {"rote": 1}},
        {"name": "n", "inner": {"pair": [1]}},
        {"name": "n", "inner": {"pair": {"[1]": 4}}},
        {"name": "n", "names": "x"},
        {"name": "n", "parts": {"p": None}},
        {"name": "n", "parts": {1: {}}},
        {"name": "n", "any": "${name}"},
        {"name": "n", "any": object()},
        {"nome": "n"},
    ],
)
def test_what_does_not_fit_is_left_to_omegaconf(values):
    with pytest.raises(Unfit):
        fitted(Outer, values)


def test_a_value_that_its_class_refuses_is_named_as_before():
    with pytest.raises(structured.ConfigError, match="rate is -1"):
        structured.structured(Outer, {"name": "n", "inner": {"rate": -1}})


def test_entries_of_a_mapping_that_holds_some_are_merged_by_omegaconf():
    base = Outer("n", parts={"p": Inner(3)})
    found = structured.structured(base, {"parts": {"q": {}}})
    assert found.parts == {"p": Inner(3.0), "q": Inner(1.0)}


def test_all_that_is_shipped_fits_and_gives_what_omegaconf_gives(monkeypatch):
    looked = []

    def both(schema, values, prefix="", others=tuple):
        found = fitted(schema, values)
        assert_same(found, by_omegaconf(schema, values), prefix)
        looked.append(schema)
        return found

    monkeypatch.setattr(config, "structured", both)
    config._options.cache_clear()
    for name in config.shipped():
        found = config.load(name, data=str(Path(__file__).parent))
    for method in methods.METHODS:
        for variant in list(found.variants_of(method))[::8]:  # OmegaConf takes long
            found.settings_of(method, variant)
    for name in config.shipped("studies")[::3]:
        study.read(name)
    for name in config.shipped("sweeps"):
        values = config.plain_values(config.find(name, "sweeps"))
        both(space.Sweep, {"name": name, **values})
    config._options.cache_clear()
    assert len(looked) > 40


def test_references_are_seen_wherever_they_stand():
    assert as_it_stands({"a": [1, {"b": "c $ {d}"}]})
    assert not as_it_stands({"a": [1, {"b": "x${d}"}]})
    assert not as_it_stands({1: 2})
