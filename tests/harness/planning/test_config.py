import re

import pytest

from harness.planning import config
from harness.planning.config import ConfigError, load, with_overrides
from methods.das3d.settings import Settings


def test_the_shipped_configurations_load():
    demo = load("demo")
    assert demo.demo and demo.name == "demo"
    assert {"das3d", "3dsr", "dbrn", "m3dm", "shape_guided"} <= {*demo.methods}
    assert load("benchmark", data="somewhere/mvtec_3d_anomaly_detection").datasets["mvtec3d"].root


def test_the_benchmark_has_the_papers_hyperparameters():
    assert load("benchmark", data="anywhere").options["das3d"] == Settings()


def test_overrides_reach_every_level():
    loaded = load(
        "demo",
        ["das3d.train.steps=7", "seeds=[3,4]", "das3d.p_z=[0.1,0.2]", "resources.das3d.cpus=2"],
    )
    assert loaded.options["das3d"].train.steps == 7
    assert loaded.seeds == [3, 4]
    assert loaded.options["das3d"].p_z == (0.1, 0.2)
    assert loaded.resources_of("das3d").cpus == 2


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("das3d.train.stepz=3", "das3d.train.stepz.*did you mean steps"),
        ("daz3d.train.steps=3", "did you mean das3d"),
        ("das3d.train.steps=1.5", "das3d.train.steps.*Integer"),
        ("das3d.train.steps=many", "das3d.train.steps.*Integer"),
        ("das3d.skew.norm=foo", "sum, max, result"),
        ("das3d=3", "das3d"),
        ("seeds=3", "seeds"),
        ("seeds=[]", "seeds is empty"),
        ("seeds=[1,1]", "twice"),
        ("settings=[rgbd]", "'rgb', '3d', 'rgb\\+3d'"),
        ("methods=[das4d]", "did you mean 'das3d'"),
        ("methods=[das3d/untraind]", "did you mean 'untrained'"),
        ("datasets.synthetic.synthetic.sise=3", "did you mean size"),
        ("datasets.other.kind=mvtec3d", "datasets.other.root is not set"),
        ("resources.das4d.cpus=1", "das4d.*known"),
        ("resources.das3d.gpus=1.5", "fraction below 1 or whole"),
        ("nonsense", "not key=value"),
    ],
)
def test_a_mistake_is_refused_and_the_message_helps(override, named):
    with pytest.raises(ConfigError, match=named):
        load("demo", [override])


def test_an_unknown_configuration_names_the_shipped_ones():
    with pytest.raises(ConfigError, match="benchmark, demo"):
        load("dmeo")


@pytest.mark.parametrize("name", ["das3d", "das3d/untrained"])
def test_a_method_in_the_place_of_a_configuration_is_told_the_right_form(name):
    with pytest.raises(ConfigError, match=re.escape(f"relief run methods=[{name}]")):
        load(name)


def test_a_broken_yaml_file_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("methods: [das3d\nseeds: 1")
    with pytest.raises(ConfigError, match="mine.yaml"):
        load(str(path))


def test_data_replaces_the_datasets_and_background_reaches_them(tmp_path):
    loaded = load("demo", data=str(tmp_path / "Parts"), background="none")
    assert list(loaded.datasets) == ["parts"]
    assert loaded.datasets["parts"].background == "none"
    with pytest.raises(ConfigError, match="background"):
        load("demo", data=str(tmp_path), background="some")


def test_variants_are_typed_overrides():
    assert load("demo").split("das3d/untrained") == ("das3d", "untrained")
    assert with_overrides(Settings(), {"train.steps": 0}).train.steps == 0
    with pytest.raises(ConfigError, match="did you mean steps"):
        with_overrides(Settings(), {"train.step": 0})


def test_a_configuration_can_name_variants_of_its_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("""
        methods: [das3d/short+skew_only, das3d/untrained]
        datasets: {s: {kind: synthetic}}
        variants: {das3d: {short: {train.steps: 7}, untrained: {train.steps: 1}}}
    """)
    loaded = load(str(path))
    short = loaded.settings_of("das3d", "short+skew_only")
    assert (short.train.steps, short.p_d) == (7, 0.0)
    assert loaded.settings_of("das3d", "untrained").train.steps == 1
    for wrong, message in (
        ("variants.das3d.short={train.step: 7}", "das3d/short.*did you mean steps"),
        ("variants.das4d={}", "unknown method 'das4d'"),
        ("methods=[das3d/shirt]", "did you mean 'short'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(str(path), [wrong])


def test_configurations_hold_yaml_1_2_numbers_and_plain_values_only(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("das3d: {train: {lr: 1e-3}}\ndatasets: {s: {kind: synthetic}}\n")
    loaded = load(str(path))
    assert loaded.name == "mine"
    assert loaded.options["das3d"].train.lr == 1e-3
    assert loaded.plain()["das3d"]["train"]["lr"] == 1e-3
    path.write_text("name: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError):
        config.load(str(path))
