"""DAS3D's building blocks against the recorded numbers and against their slow versions."""

import re

import numpy as np
import pytest
import torch

from methods.blocks import augmenters, texture_choice, textures
from methods.blocks.draem import Discriminative, Reconstructive, init_weights
from methods.blocks.losses import focal, ssim, ssim_map
from methods.blocks.perlin import draw_perlin, perlin_noise, rotate
from methods.das3d.synthesis import ternary
from tests.methods import das3d_oracle as oracle

DRAEM = [
    ("draem_reconstructive_w128_3to3", 64, 1, 2.4e-7),
    ("draem_reconstructive_w128_1to1", 64, 1, 2.4e-7),
    ("draem_reconstructive_w16_3to3", 256, 4, 3.6e-7),
    ("draem_discriminative_b64_6to2", 64, 1, 3.5e-7),
    ("draem_discriminative_b16_6to2", 256, 4, 3.6e-7),
]


@pytest.fixture
def p(parity):
    return parity("das3d")


def close(got, expected, tolerance):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=tolerance)


def stats(x):
    x = np.asarray(x, np.float64)
    return np.array([x.mean(), x.std(), np.abs(x).sum()])


def layout(state_dict):
    return [[key, list(value.shape)] for key, value in state_dict.items()]


def draem_network(name):
    kind, width, channels_in, channels_out = re.fullmatch(
        r"draem_(\w+)_[wb](\d+)_(\d+)to(\d+)", name
    ).groups()
    cls = Reconstructive if kind == "reconstructive" else Discriminative
    return cls(int(channels_in), int(channels_out), int(width)), int(channels_in)


@pytest.mark.parity
@pytest.mark.parametrize("name, size, every, seen", DRAEM)
def test_draem_networks_match_the_official_ones(p, name, size, every, seen):
    net, channels = draem_network(name)
    assert layout(net.state_dict()) == p.state_dict_list(name)
    p.fill(net.eval())
    x = torch.from_numpy(p.input("x", (1, channels, size, size), "unit"))
    with torch.inference_mode():
        out = net(x)
    expected = p.npz(name)
    results = {"out": out, "prob": out.softmax(dim=1)}
    for key in results.keys() & expected.keys():
        close(results[key][:, :, ::every, ::every], expected[key], 5 * seen + 1e-6)
        whole = expected[f"{key}__stats"]
        np.testing.assert_allclose(stats(results[key]), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("case, low, high", [("unit", 0, 1), ("negative", -1, 1), ("byte", 0, 255)])
def test_ssim_matches_the_formula(p, case, low, high):
    expected = p.npz("ssim_focal")
    a, b = (p.input(n, (2, 3, 40, 40), "unit").astype(np.float64) for n in ("ssim_a", "ssim_b"))
    a = low + (high - low) * a
    b = np.clip(a + 0.15 * (high - low) * (b - 0.5), low, high)
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    close(ssim(a, b), expected[f"ssim_{case}"], 1e-10)
    close(ssim_map(a, b)[:, :, ::4, ::4], expected[f"ssim_{case}_map"], 1e-6)
    close(ssim(a.float(), b.float()), expected[f"ssim_{case}"], 1e-6)


@pytest.mark.parity
def test_focal_matches_the_formula(p):
    expected = p.npz("ssim_focal")
    logits = torch.from_numpy(p.input("focal_logits", (2, 2, 24, 24), "normal")).double()
    target = torch.from_numpy(p.input("focal_t", (2, 1, 24, 24), "unit") > 0.85).double()
    for key in [k for k in expected if k.startswith("focal_")]:
        gamma = float(key.removeprefix("focal_gamma"))
        close(focal(logits.softmax(dim=1), target, gamma), expected[key], 1e-9)


@pytest.mark.parity
def test_perlin_noise_and_rotation_match_the_official_generator(p):
    expected = p.npz("perlin256")
    grids = [tuple(map(int, k.split("_")[1:])) for k in expected if re.fullmatch(r"P_\d+_\d+", k)]
    assert grids
    tables = [p.input(f"perlin_{r}_{c}", (r + 1, c + 1), "unit") for r, c in grids]
    most = max(max(g) for g in grids) + 1
    u = np.stack([np.pad(t, ((0, most - t.shape[0]), (0, most - t.shape[1]))) for t in tables])
    degrees = torch.tensor([float(expected[f"deg_{r}_{c}"]) for r, c in grids], dtype=torch.float64)
    noise = perlin_noise(torch.from_numpy(u).double(), torch.tensor(grids), (256, 256))
    turned = rotate(noise[:, None], degrees)[:, 0]
    for (r, c), before, after in zip(grids, noise.numpy(), turned.numpy()):
        for letter, image in (("P", before), ("R", after)):
            close(image[::8, ::8], expected[f"{letter}_{r}_{c}"], 1e-6)
            np.testing.assert_allclose(
                stats(image), expected[f"{letter}_{r}_{c}__stats"], rtol=1e-6, atol=1e-6
            )
        areas = [(before > 0.5), (before < -0.5), (after > 0.5), (after < -0.5)]
        close([a.mean() for a in areas], expected[f"frac_{r}_{c}"], 2e-5)


def test_perlin_noise_and_rotation_match_one_pixel_at_a_time():
    draws = [draw_perlin(np.random.default_rng(seed)) for seed in range(6)]
    u = torch.from_numpy(np.stack([d.u for d in draws]))
    noise = perlin_noise(u, torch.tensor([d.grid for d in draws]), (64, 64))
    turned = rotate(noise[:, None], torch.tensor([d.angle_deg for d in draws]))[:, 0]
    for d, before, after in zip(draws, noise, turned):
        slow = oracle.perlin(d.u.astype(np.float64), d.grid, 64)
        close(before, slow, 2e-6)
        close(after, oracle.rotate(slow, d.angle_deg), 5e-5)


def perlin_areas(count, size, seed, batch=50):
    """Areas above 0.5, above 0.5 in absolute value, and the noise's deviation, per draw."""
    rng = np.random.default_rng(seed)
    for _ in range(count // batch):
        draws = [draw_perlin(rng) for _ in range(batch)]
        u = torch.from_numpy(np.stack([d.u for d in draws]))
        noise = perlin_noise(u, torch.tensor([d.grid for d in draws]), (size, size))
        mask = ternary(
            rotate(noise[:, None], torch.tensor([d.angle_deg for d in draws]))[:, 0], 0.5
        )
        yield from zip(
            [min(d.grid) for d in draws],
            (mask > 0).float().mean((1, 2)).tolist(),
            mask.abs().mean((1, 2)).tolist(),
            noise.std((1, 2), unbiased=False).tolist(),
        )


@pytest.mark.parity
def test_perlin_masks_have_the_official_areas(p):
    expected = p.json("perlin_statistics_256")
    smaller, above, both, deviation = map(np.array, zip(*perlin_areas(2000, expected["size"], 0)))
    for values, name in [
        (above, "fraction_above_0.5_after_rotation"),
        (both, "fraction_abs_above_0.5_after_rotation"),
        (deviation, "noise_std_before_rotation"),
    ]:
        assert values.mean() == pytest.approx(expected[name]["mean"], rel=0.05), name
        assert (values == 0).mean() == pytest.approx(expected[name]["fraction_zero"], abs=0.015)
    for exponent, mean in expected["mean_fraction_above_by_min_exponent"].items():
        values = above[smaller == 2 ** int(exponent)]
        error = values.std() / np.sqrt(len(values))
        assert values.mean() == pytest.approx(mean, abs=4 * error + 0.05 * mean)


def augmented_as_named(image, name):
    """Call the augmenter with the parameters that a fixture's name carries."""
    kind, _, rest = name.partition("_")
    if hue := re.fullmatch(r"hue(-?\d+)_sat(-?\d+)", name):
        return augmenters.hue_saturation(image, *map(int, hue.groups()))
    if kind == "brightness":
        factor, offset, space = re.fullmatch(r"mul([\d.]+)_add(-?[\d.]+)_(\w+)", rest).groups()
        return augmenters.brightness(image, space, float(factor), float(offset))
    if kind == "gamma":
        return augmenters.gamma(image, tuple(map(float, rest.split("_"))))
    function = {
        "sharpness": augmenters.sharpness,
        "solarize": augmenters.solarise,
        "posterize": augmenters.posterise,
        "invert": augmenters.invert,
        "autocontrast": augmenters.autocontrast,
        "equalize": augmenters.equalise,
        "rotate": augmenters.rotate,
    }[kind]
    return function(image, *(float(v) if "." in v else int(v) for v in rest.split("_") if v))


@pytest.mark.parity
def test_augmenters_match_imgaug(p):
    expected = p.npz("augmenters")
    image = expected.pop("img")
    before = image.copy()
    for name, want in expected.items():
        got = augmented_as_named(image, name)
        assert got.dtype == np.uint8, name
        off = np.abs(got.astype(int) - want.astype(int))
        if name.startswith("brightness"):
            assert off.max() <= 2 and (off > 0).any(axis=-1).mean() <= 0.02, name
        elif name.startswith("rotate"):
            assert off.max() <= 3, name
        else:
            assert off.max() == 0, name
    assert (image == before).all()


@pytest.mark.parametrize("height, width", [(2, 9), (3, 3), (40, 31)])
def test_sharpness_is_that_of_pillow_to_the_last_bit(height, width):
    from PIL import Image, ImageEnhance

    rng = np.random.default_rng(0)
    shape = (height, width, 3)
    for factor in (0, 0.3, 1, 1.7, 2, *rng.uniform(0, 2, 20)):
        for image in (rng.integers(0, 256, shape), 255 * rng.integers(0, 2, shape)):
            image = image.astype(np.uint8)
            expected = ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor)
            assert np.array_equal(augmenters.sharpness(image, factor), np.asarray(expected))


def test_drawn_augmenters_differ_and_repeat():
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)

    def changed(seed):
        result = image
        for change in augmenters.draw(np.random.default_rng(seed)):
            result = change(result)
        return result

    results = [changed(seed) for seed in range(40)]
    assert all(r.shape == image.shape and r.dtype == np.uint8 for r in results)
    assert (changed(3) == results[3]).all()
    assert len({r.tobytes() for r in results}) == 40
    names = [getattr(c, "func", c) for c in augmenters.draw(np.random.default_rng(1), 10)]
    assert len(set(names)) == 10


def test_initial_weights_come_from_the_generator():
    nets = [Reconstructive(1, 1, 16) for _ in range(2)]
    for net in nets:
        init_weights(net, torch.Generator().manual_seed(3))
    a, b = (net.state_dict() for net in nets)
    assert all(torch.equal(a[k], b[k]) for k in a)
    conv, norm = a["encoder.block4.3.weight"], a["encoder.block5.1.weight"]
    assert conv.std().item() == pytest.approx(0.02, rel=0.02) and abs(conv.mean()) < 1e-3
    assert norm.mean().item() == pytest.approx(1, abs=0.01)
    assert a["encoder.block4.3.bias"].abs().max() == 0


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif"])
def test_an_image_of_textures_is_that_of_its_file_resized(suffix, tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (9, 12, 3), np.uint8)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), cv2.resize(small, (90, 70)))
    read = cv2.cvtColor(cv2.imread(str(tmp_path / f"a.{suffix}")), cv2.COLOR_BGR2RGB)
    texture = textures.texture_source("folder", 32, str(tmp_path))
    assert np.array_equal(texture(rng), cv2.resize(read, (32, 32)))
    cropped = textures.Images([tmp_path / f"a.{suffix}"], 32, crop=True)
    assert np.array_equal(cropped._read(0), read)


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_a_texture_that_is_no_image_is_named(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="a.png is not an image"):
        textures.texture_source("folder", 32, str(tmp_path))(np.random.default_rng(0))


def test_skips_make_a_unet_of_the_same_shape():
    net = Reconstructive(3, 3, 4, skips=True).eval()
    assert net(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert net.decoder.db4[0].weight.shape[1] == 8


@pytest.mark.parametrize(
    "make", [lambda rng, size, f=f: f(rng, size) for f in textures._PROCEDURES]
)
def test_procedural_textures_fill_the_square_and_repeat(make):
    first, again, other = (make(np.random.default_rng(seed), 64) for seed in (0, 0, 1))
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert (first == again).all() and (first != other).any()
    assert first.std() > 5


def write_images(folder, names):
    import cv2

    rng = np.random.default_rng(0)
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (20, 30, 3), np.uint8)
        image[..., 2] = i  # OpenCV writes BGR: red tells the file
        cv2.imwrite(str(folder / name), image)


@pytest.mark.parametrize("source", texture_choice.SOURCES)
def test_every_source_gives_textures(source, tmp_path):
    write_images(tmp_path, ["a/train/good/rgb/0.png", "b/train/good/rgb/0.png"])
    folder = str(tmp_path) if source in ("dtd", "imagenet", "folder", "other_categories") else None
    texture = textures.texture_source(source, 32, folder, "a")
    drawn = [texture(np.random.default_rng(seed)) for seed in range(8)]
    assert all(t.shape == (32, 32, 3) and t.dtype == np.uint8 for t in drawn)
    assert len({t.tobytes() for t in drawn}) > 1
    assert (texture(np.random.default_rng(0)) == drawn[0]).all()


def test_other_categories_leave_out_the_own_one_and_test_images(tmp_path):
    write_images(
        tmp_path,
        [
            "a/train/good/rgb/0.png",
            "b/train/good/rgb/0.png",
            "b/test/hole/rgb/0.png",
            "c/train/data/00_image_4.png",
            "c/train/data/00_depth.png",
        ],
    )
    texture = textures.texture_source("other_categories", 32, str(tmp_path), "a")
    reds = {int(texture(np.random.default_rng(s))[0, 0, 0]) for s in range(20)}
    assert reds == {1, 3}


def test_images_are_read_as_rgb_and_kept_in_bounded_number(tmp_path):
    write_images(tmp_path, [f"{i}.png" for i in range(5)])
    texture = textures.Images(sorted(tmp_path.glob("*.png")), 16, crop=True, cached=2)
    for seed in range(20):
        assert texture(np.random.default_rng(seed))[..., 0].max() < 5
    assert texture._load.cache_info().currsize == 2


def test_many_textures_are_those_of_few(tmp_path, monkeypatch):
    """Kept on disk or in memory."""
    monkeypatch.setenv("RELIEF_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path, [f"{i}.png" for i in range(5)])
    files = sorted(tmp_path.glob("*.png"))
    few, many = (textures.Images(files, 16, cached=n) for n in (5, 4))
    for seed in [*range(10)] * 2:
        found = (texture(np.random.default_rng(seed)) for texture in (few, many))
        assert np.array_equal(*found)
    assert list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("folder, said", [(None, "is not set"), ("/no/such", "/no/such is not")])
def test_a_missing_dtd_says_what_it_is_and_which_setting_names_it(folder, said):
    with pytest.raises(FileNotFoundError, match=said) as error:
        textures.texture_source("dtd", 32, folder, setting="das3d.texture")
    assert "Describable Textures" in str(error.value)
    assert "das3d.texture.folder" in str(error.value)


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image"):
        textures.texture_source("folder", 32, str(tmp_path))


def test_auto_is_named_by_what_it_uses():
    assert texture_choice.source_name("auto", None) == "bundled+procedural"
    assert texture_choice.source_name("auto", "somewhere") == "dtd"
    assert texture_choice.source_name("procedural", None) == "procedural"


@pytest.mark.parametrize("source", ["auto", "dtd"])
def test_a_missing_folder_of_textures_is_told_with_a_remedy_for_that_source(source, tmp_path):
    with pytest.raises(FileNotFoundError, match="/nowhere is not a folder") as told:
        texture_choice.texture_folder(source, str(tmp_path / "nowhere"), "das3d.texture")
    assert ("set das3d.texture.source to 'auto'" in str(told.value)) == (source == "dtd")
    assert ("leave das3d.texture.folder out" in str(told.value)) == (source == "auto")
