"""Files of weights that authors publish: what each is for, where it is, what a run does without.

One folder, RELIEF_WEIGHTS, is searched for all of them by name. Nothing is downloaded, and no torch
is here.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from methods.marks import RANDOM_INIT

FOLDER = "RELIEF_WEIGHTS"  # variable of the environment
PUBLISHED = "published"  # in place of a path: the file of its published name in that folder
SMALLEST = 64  # bytes: no network has fewer
UNSTATED = "not stated in what we read: see there"
APACHE = "Apache-2.0, by its model card"
MIT = "MIT, of the repository; of the file nothing is said"
NO_LICENCE = "the repository had none when we read it: see there"


@dataclass(frozen=True)
class WeightFile:
    setting: str  # that takes it
    file: str  # its usual name
    purpose: str
    source: str  # where its authors publish it
    without: str  # what a run does that has not got it
    sha256: str = ""
    git_blob: str = ""  # the name that git gives its content, where that is what is known
    licence: str = UNSTATED
    cells: str = ""  # of these alone: "rgb", "3d" or "rgb+3d"
    stage: str = ""  # that is trained without it
    training: str = ""  # the group of settings by which it is trained

    @property
    def method(self) -> str:
        return self.setting.partition(".")[0]

    @property
    def key(self) -> str:
        """The setting's name within its method."""
        return self.setting.partition(".")[2]

    @property
    def needed(self) -> bool:
        """Whether a run of all rows is refused without it."""
        return self.without.endswith(_NEEDED)

    @property
    def found(self) -> Path | None:
        return in_folder(self.file)

    @property
    def as_published(self) -> bool | None:
        """Whether the file that is found has the published checksum; None if nobody can tell."""
        if (path := self.found) is None or not (self.sha256 or self.git_blob):
            return None
        start = b"" if self.sha256 else b"blob %d\0" % path.stat().st_size
        digest = hashlib.new("sha256" if self.sha256 else "sha1", start, usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest() == (self.sha256 or self.git_blob)

    @property
    def damaged(self) -> str:
        """What is wrong with the file that is found; empty if nothing is, or there is none."""
        return damage(self.found) if self.found else ""


_DINO = "https://dl.fbaipublicfiles.com/dino"
_HUB = "https://huggingface.co/timm"
_3DSR = "https://github.com/VitjanZ/3DSR, folder checkpoints"
_NEEDED = "refused by plan; random-init runs with random weights, and marks the results"
_ROW = "the row is refused by plan; all others do not need it"
_STAGE_1 = "stage 1 is trained here (100,000 steps of 64 images; needs a folder of images)"

FILES = (
    WeightFile(
        "m3dm.weights.rgb",
        "dino_vitbase8_pretrain.pth",
        "M3DM, image features: ViT-B/8 of DINO",
        f"{_DINO}/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth",
        f"rgb, rgb+3d: {_NEEDED}",
        licence=APACHE,
    ),
    WeightFile(
        "m3dm.weights.rgb",
        "dino_deitsmall8_pretrain.pth",
        "M3DM, image features: ViT-S/8 of DINO (Tables VIII, IX)",
        f"{_DINO}/dino_deitsmall8_pretrain/dino_deitsmall8_pretrain.pth",
        _ROW,
        licence=APACHE,
    ),
    WeightFile(
        "m3dm.weights.rgb",
        "vit_base_patch8_224.augreg_in21k_ft_in1k.safetensors",
        "M3DM, image features: ViT-B/8 supervised on ImageNet-1k (Tables VIII, IX)",
        f"{_HUB}/vit_base_patch8_224.augreg_in21k_ft_in1k",
        _ROW,
        licence=APACHE,
    ),
    WeightFile(
        "m3dm.weights.rgb",
        "vit_base_patch8_224.augreg_in21k.safetensors",
        "M3DM, image features: ViT-B/8 supervised on ImageNet-21k (Tables VIII, IX)",
        f"{_HUB}/vit_base_patch8_224.augreg_in21k",
        _ROW,
        licence=APACHE,
    ),
    WeightFile(
        "m3dm.weights.point",
        "pointmae_pretrain.pth",
        "M3DM, point features: Point-MAE",
        "https://github.com/Pang-Yatian/Point-MAE/releases (pretrain.pth) or the links of "
        "https://github.com/nomewang/M3DM",
        f"3d, rgb+3d: {_NEEDED}",
        sha256="27ded932bb0a2625d5a8eb006df199b2578598c774aee6d86b985300b6a5fd20",
        licence=MIT,
    ),
    WeightFile(
        "m3dm.weights.point",
        "Point-BERT.pth",
        "M3DM, point features: Point-BERT (Tables VIII, IX)",
        "https://github.com/lulutang0608/Point-BERT (pre-trained Point-BERT)",
        _ROW,
    ),
    WeightFile(
        "m3dm.weights.uff",
        "uff_pretrain.pth",
        "M3DM, fusion of rgb+3d: the way to its published numbers",
        "the links of https://github.com/nomewang/M3DM",
        "the fusion is trained here; users report that this loses some points in rgb+3d",
        stage="uff",
        training="uff",
        licence=MIT,
    ),
    WeightFile(
        "shape_guided.weights.rgb",
        "wide_resnet50_racm-8234f177.pth",
        "Shape-Guided, image features: WideResNet-50-2 of timm, tag racm_in1k",
        "https://github.com/huggingface/pytorch-image-models/releases, "
        f"{_HUB}/wide_resnet50_2.racm_in1k",
        f"rgb, rgb+3d: {_NEEDED}",
        licence=APACHE,
    ),
    WeightFile(
        "shape_guided.weights.sdf",
        "ckpt_000601.pth",
        "Shape-Guided, shape expert of 3d and rgb+3d: the authors' own",
        "https://github.com/jayliu0313/Shape-Guided",
        "one is trained here by the released script (601 epochs), over all categories",
        stage="shape_expert",
        training="train",
        licence=NO_LICENCE,
    ),
    WeightFile(
        "3dsr.dada.weights",
        "DADA_RGB_D.pckl",
        "3DSR, autoencoder of rgb+3d",
        _3DSR,
        f"rgb+3d: {_STAGE_1}",
        cells="rgb+3d",
        stage="dada",
        training="dada",
        git_blob="c5c24d4bcccbff50f409aab117f93dc1ef2aea73",
        licence=NO_LICENCE,
    ),
    WeightFile(
        "3dsr.dada.weights",
        "DADA_D.pckl",
        "3DSR, autoencoder of 3d",
        _3DSR,
        f"3d: {_STAGE_1}",
        cells="3d",
        stage="dada",
        training="dada",
        git_blob="dc03f4e588e0f531b86796ef654564541d28f3c1",
        licence=NO_LICENCE,
    ),
    WeightFile(
        "3dsr.rgb.dada.weights",
        "vq_model_pretrained_128_4096.pckl",
        "DSR, autoencoder of setting rgb",
        "the link of https://github.com/VitjanZ/DSR_anomaly_detection, or in anomalib's release "
        "dsr_pretrained_weights (zip, SHA-256 52fe7504ec8e9df70b4382f287ab26269dcfe000cd7a7e14"
        "6a52c6f146f34afb)",
        f"rgb: {_STAGE_1}",
        cells="rgb",
        stage="dada",
        training="rgb.dada",
        licence=NO_LICENCE,
    ),
)


def of(setting: str) -> tuple[WeightFile, ...]:
    """The published files that a setting takes, the usual one first."""
    return tuple(file for file in FILES if file.setting == setting)


def named(name: str) -> WeightFile:
    """The published file of that name."""
    return next(file for file in FILES if file.file == name)


def in_folder(name: str) -> Path | None:
    """The file of that name in RELIEF_WEIGHTS or a folder in it; None if it is not there."""
    folder = os.environ.get(FOLDER)
    return below(Path(folder), name) if folder else None


def below(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder or one in it."""
    path = folder.expanduser() / name
    return path if path.is_file() else next(folder.expanduser().rglob(name), None)


def damage(path: Path) -> str:
    """What shows at a glance that a file is no checkpoint, or not all of one; else nothing.

    PyTorch writes zip files, earlier pickles; timm publishes safetensors, too.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
    if size < SMALLEST:
        return f"it has {size} bytes"
    if start.startswith(b"PK"):
        return "" if zipfile.is_zipfile(path) else "its end is missing"
    if start[0] == 0x80:  # a pickle, of protocol 2 or later
        return ""
    header = int.from_bytes(start[:8], "little")  # of safetensors: its length, then JSON
    if start[8:] == b"{":
        return "" if 8 + header <= size else "its end is missing"
    return "it is no file of PyTorch, pickle or safetensors"


def weight_file(given: str | None, setting: str, advice: str, name: str = "") -> Path | None:
    """The file that a setting of weights means, None if it asks for random ones; see `existing`."""
    return None if given == RANDOM_INIT else existing(given, setting, advice, name)


def existing(given: str | None, setting: str, advice: str, name: str = "") -> Path:
    """The file that `setting` gives. name: of the file, where a folder that holds it will do, too.

    Nothing, or "published", is the file of that name in RELIEF_WEIGHTS. Raises ValueError if
    nothing is given or what is published for something else, FileNotFoundError if it is not there;
    all end with `advice`. Networks of one shape would take each other's files without a word.
    """
    if name and given in (None, "", PUBLISHED) and (found := in_folder(name)):
        return _whole(found, setting, advice)
    if given == PUBLISHED:
        where = os.environ.get(FOLDER)
        state = f"{where} has no {name}" if where else f"{FOLDER} names no folder"
        raise FileNotFoundError(f"{setting}={PUBLISHED}: {state}: {advice}")
    if not given:
        raise ValueError(f"{setting} is not set: {advice}")
    path = Path(given)
    path = path / name if name and path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{setting}: {path} is not a file: {advice}")
    if name and path.name != name and path.name in (file.file for file in FILES):
        what = named(path.name).purpose
        raise ValueError(f"{setting}: {path.name} is {what}, not what is wanted here: {advice}")
    return _whole(path, setting, advice)


def _whole(path: Path, setting: str, advice: str) -> Path:
    if why := damage(path):
        raise ValueError(f"{setting}: {path} is damaged or no checkpoint, {why}: {advice}")
    return path


@dataclass(frozen=True)
class Backbone:
    tag: str  # of timm
    file: str  # the usual name of its weights

    @property
    def source(self) -> str:
        """Where they are published."""
        known = [file.source for file in FILES if file.file == self.file]
        return known[0] if known else f"https://huggingface.co/timm/{self.tag}"


BACKBONES = {
    "vit_base_patch8_224_dino": Backbone(
        "vit_base_patch8_224.dino",
        "dino_vitbase8_pretrain.pth",
    ),
    "vit_small_patch8_224_dino": Backbone(
        "vit_small_patch8_224.dino",
        "dino_deitsmall8_pretrain.pth",
    ),
    "vit_base_patch8_224": Backbone(
        "vit_base_patch8_224.augreg_in21k_ft_in1k",
        "vit_base_patch8_224.augreg_in21k_ft_in1k.safetensors",
    ),
    "vit_base_patch8_224_in21k": Backbone(
        "vit_base_patch8_224.augreg_in21k",
        "vit_base_patch8_224.augreg_in21k.safetensors",
    ),
    "vit_tiny_patch16_224": Backbone(
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors",
    ),
}
