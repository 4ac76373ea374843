import re

import pytest

from harness.planning import config
from harness.planning.config import ConfigError, load, read, typed, with_overrides
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
        ("das3d=3", "das3d: it is 3, and takes keys with values"),
        ("das3d=null", "das3d: it is None, and takes keys with values"),
        ("das3d.train=[1]", r"das3d.train: it is \[1\], and takes keys with values"),
        ("datasets=here", "datasets: it is 'here', and takes keys with values"),
        ("datasets=[here]", "datasets: .*, and takes keys with values"),
        ("datasets.synthetic=3", "datasets.synthetic: it is 3, and takes keys with values"),
        ("das3d.p_z=2", r"das3d.p_z: it is 2, and takes a list: give \[2\]"),
        ("seeds=3", r"seeds: it is 3, and takes a list: give \[3\]"),
        ("seeds=0,1", r"seeds: .* give \[0,1\]"),
        ("methods=das3d", r"methods: .* give \[das3d\]"),
        (
            "datasets.synthetic.categories=cookie",
            r"datasets.synthetic.categories: .* give \[cookie\]",
        ),
        ("seeds=[0", "override 'seeds=.0': line 2"),
        ("seeds=[99999999999999999999]", r"seeds\[0\] is 9+: give one of less than 63 bits"),
        ("name=''", "name is"),
        ('name="a\\nb"', "name is"),
        ("das3d.train.lr=nan", "das3d.train.lr is nan: give a number"),
        ("das3d.train.lr=.inf", "das3d.train.lr is inf: give a number"),
        ("das3d.train.steps=.nan", "das3d.train.steps"),
        ("das3d.beta=[0, .nan]", r"das3d.beta"),
        ("resources.default.memory_gb=nan", "memory_gb is nan: give a number"),
        ("datasets.synthetic.scale=.nan", "datasets.synthetic.scale is nan: give a number"),
        ("das3d.train.steps=-1", "das3d.train.steps is -1: give 0 or more"),
        ("das3d.train.batch=0", "das3d.train.batch is 0: give more than 0"),
        ("das3d.train.lr=0", "das3d.train.lr is 0: give more than 0"),
        ("dbrn.train.lr_ism=-1", "dbrn.train.lr_ism is -1: give more than 0"),
        ("das3d.prep.size=-64", "das3d.prep.size is -64: give more than 0"),
        ("das3d.prep.plane_distance_m=-1", "plane_distance_m is -1: give 0 or more"),
        ("3dsr.dada.train.steps=-5", "3dsr.dada.train.steps is -5: give 0 or more"),
        ("das3d={1: 2, a: 3}", "das3d"),
        ("das3d.train.steps=!!binary aGk=", "a bytes: give text"),
        ("das3d.train.steps=!!set {a, b}", "a set: give text"),
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seeds:\n\t- 0\n", "line 2, column 1: .* a tab\\? Indent by spaces"),
        ("methods: [das3d\nseeds: 1", "line 2"),
        ("seeds: [0]\nseeds: [1]", "line 2, column 1: 'seeds' stands twice"),
        ("a: &a [*a]", "a value refers to itself"),
    ],
)
def test_what_is_no_yaml_is_told_in_one_line_with_its_place(tmp_path, text, told):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"^mine.yaml: {told}") as error:
        load(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(error.value) and "unicode string" not in str(error.value)


def test_a_record_of_an_earlier_launch_is_read_whatever_its_sizes():
    given = read("demo", ["das3d.train.lr=0", "das3d.train.batch=0"])
    assert typed(given, "launch").options["das3d"].train.lr == 0


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


def test_options_of_a_dataset_by_another_name_than_its_folder_gives_are_told_that_name(tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(ConfigError, match=r"mvtec3d\.root is not set \(datasets with .*: scans\)"):
        load("demo", ["datasets.mvtec3d.categories=[bagel]"], str(tmp_path / "scans"))
