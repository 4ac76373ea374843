"""Authors' files that a plan was not given: named with what is trained in their place."""

import pytest

from harness.planning import config, space
from harness.planning.authors import not_given, told
from harness.planning.config import ConfigError
from harness.planning.expand import build
from methods import published
from tests.harness.conftest import checkpoint

ALL = (
    "methods=[m3dm,shape_guided,3dsr]",
    "seeds=[0]",
    "datasets.synthetic={kind: synthetic, categories: [cookie], synthetic: {size: 64, train: 256}}",
    "m3dm.weights.rgb=random-init",
    "m3dm.weights.point=random-init",
    "shape_guided.weights.rgb=random-init",
    "3dsr.dada.images.source=procedural",
    "3dsr.rgb.dada.images.source=procedural",
)


def missed(*changes, base="benchmark"):
    return {file.file: file for file in not_given(build(config.load(base, [*ALL, *changes])))}


def test_what_is_trained_in_place_of_an_authors_file_is_told_with_its_source_and_what_it_loses():
    found = missed()
    assert set(found) == {
        "uff_pretrain.pth",
        "ckpt_000601.pth",
        "DADA_RGB_D.pckl",
        "DADA_D.pckl",
        "vq_model_pretrained_128_4096.pckl",
    }
    text = told(found["uff_pretrain.pth"])
    for part in (
        "m3dm.weights.uff=published",
        "uff_pretrain.pth",
        "github.com/nomewang/M3DM",
        "loses some points",
        published.FOLDER,
    ):
        assert part in text
    assert set(missed("settings=[rgb]")) == {"vq_model_pretrained_128_4096.pckl"}


def test_files_that_are_given_that_no_row_takes_or_that_fit_no_demo_are_not_told(
    tmp_path, monkeypatch
):
    checkpoint(tmp_path / "ckpt_000601.pth")
    monkeypatch.setenv(published.FOLDER, str(tmp_path))
    assert "lies there" in told(missed()["ckpt_000601.pth"])
    given = missed("shape_guided.weights.sdf=published", "m3dm.uff.enabled=false")
    assert set(given) & {"ckpt_000601.pth", "uff_pretrain.pth"} == set()
    assert not missed("methods=[3dsr/no_affine,3dsr/vqvae]", "settings=[rgb+3d]")
    assert not missed(base="demo")


@pytest.mark.parametrize(
    ("sweep", "given"),
    [
        ("3dsr_dada", "3dsr.dada.weights"),
        ("m3dm_fusion", "m3dm.weights.uff"),
        ("shape_guided_queries", "shape_guided.weights.sdf"),
    ],
)
def test_a_search_of_what_a_given_file_has_been_trained_by_is_refused(sweep, given):
    with pytest.raises(ConfigError, match=f"would change nothing: {given} is given"):
        space.load(sweep, [f"{given}=published"])
    assert space.load(sweep).space


def test_a_search_beside_a_given_file_goes_on():
    space.load("3dsr_loss", ["3dsr.dada.weights=published"])
    space.load("3dsr_dada", ["3dsr.rgb.dada.weights=published"])
    space.load("m3dm_banks", ["m3dm.weights.uff=published"])
