"""What is typed is what is meant."""

import pytest
import yaml

from harness.planning import config, space
from harness.planning.yaml12 import load
from tests.harness.conftest import TINY


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{on: validation}", {"on": "validation"}),
        ("[01, 02, 10]", ["01", "02", 10]),
        ("[yes, no, off, y]", ["yes", "no", "off", "y"]),
        ("[true, False, null, ~]", [True, False, None, None]),
        ("[1, -2, 0.5, 1e-3, 5., .5, 1e3]", [1, -2, 0.5, 0.001, 5.0, 0.5, 1000.0]),
        ("[1_000, 0x1f, 12:30, 2021-01-01]", ["1_000", "0x1f", "12:30", "2021-01-01"]),
        ("", None),
        ("007.5", "007.5"),
    ],
)
def test_values_that_are_no_numbers_are_text(text, value):
    found = load(text)
    assert found == value and type(found) is type(value)
    if isinstance(value, list):
        assert [type(v) for v in found] == [type(v) for v in value]


def test_infinity_is_a_number_and_a_key_stands_once():
    assert load("[.inf, -.inf]") == [float("inf"), float("-inf")]
    with pytest.raises(yaml.YAMLError, match="'a' stands twice"):
        load("a: 1\na: 2")
    with pytest.raises(yaml.YAMLError, match="refers to itself"):
        load("a: &a [*a]")
    assert load("a: &a [1]\nb: *a") == {"a": [1], "b": [1]}


def test_categories_keep_their_zeros():
    given = ["datasets.synthetic.categories=[01,02]"]
    assert config.read(str(TINY), given)["datasets"]["synthetic"]["categories"] == ["01", "02"]


def test_categories_may_be_called_anything(tmp_path):
    names = ["on", "null", "1e3", "true", "01"]
    given = config.read(str(TINY), [f"datasets.synthetic.categories=[{','.join(names)}]"])
    assert given["datasets"]["synthetic"]["categories"] == names
    text = f"categories: [{', '.join(names)}]"
    assert load(text) == {"categories": names} and load("categories: null") == {"categories": None}
    file = tmp_path / "c.yaml"
    file.write_text(f"datasets: {{a: {{root: x, {text}}}}}\n")
    assert config.read(str(file), [])["datasets"]["a"]["categories"] == names
    config.write_yaml(config.read(str(file), []), file, "again")
    assert config.read(str(file), [])["datasets"]["a"]["categories"] == names


def test_an_objective_can_be_on_test_data(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(
        f"base: {TINY}\nconfig: {{methods: [das3d]}}\n"
        "space: {das3d.p_d: {kind: uniform, low: 0, high: 1}}\nobjective: {on: test}\n"
    )
    assert space.load(str(file)).objective.on == "test"


@pytest.mark.parametrize(("text", "said"), [("", "nothing"), ("- 1", "list"), ("a", "str")])
def test_a_file_that_is_no_configuration_says_so(tmp_path, text, said):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(config.ConfigError, match=f"c.yaml: it holds {said}, not keys with values"):
        config.load(str(file))
