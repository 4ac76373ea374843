"""What to run: a YAML file merged into typed defaults, then `key=value` overrides.

Every key is typed, by the dataclasses below and by each method's own Settings under the
method's name (`das3d.train.steps=100`), so a typo or a wrong type is refused before anything
starts, with the nearest valid names.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Optional

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

import methods
from harness.data.eyecandies import Options as Eyecandies
from methods.contract import SETTINGS

REPOSITORY = Path(__file__).parents[1] / "configs"     # in a checkout
INSTALLED = Path(__file__).parent / "configs"          # in an installed wheel


class ConfigError(ValueError):
    """A configuration that cannot be run; the message says what to change."""


@dataclass
class Synthetic:
    """The dataset that the program makes itself; what is left out comes from the preset."""

    preset: str = "small"                       # tiny, small, standard, paper
    layout: Literal["mvtec3d", "eyecandies"] = "mvtec3d"
    size: Optional[int] = None                  # px, width and height
    train: Optional[int] = None                 # samples a category
    validation: Optional[int] = None
    good: Optional[int] = None                  # normal test samples a category
    per_defect: Optional[int] = None            # anomalous test samples a defect folder
    seed: int = 0


@dataclass
class Dataset:
    kind: Literal["auto", "mvtec3d", "folder", "eyecandies", "synthetic"] = "auto"
    root: Optional[str] = None                  # folder that holds the categories
    categories: Optional[list[str]] = None      # None: all there are
    train_samples: Optional[int] = None         # few-shot: so many drawn by seed; None: all
    background: Literal["plane", "none"] = "plane"   # "none": the scene has no supporting plane
    nonfinite: Literal["error", "missing"] = "error"  # what NaN and infinite points are
    scale: float = 1.0                          # metres per unit of the clouds (mvtec3d, folder)
    eyecandies: Eyecandies = field(default_factory=Eyecandies)
    synthetic: Synthetic = field(default_factory=Synthetic)


@dataclass(frozen=True)
class Resources:
    """What one job reserves; fractions of a GPU let several jobs share it."""

    cpus: int = 1
    gpus: float = 0.0
    memory_gb: float = 2.0
    hours: float = 24.0                         # time limit of one attempt


@dataclass
class Schedule:
    retries: int = 2                            # further attempts after a crash or lost node
    checkpoint_every_s: float = 60.0
    isolation: Literal["auto", "worker", "process"] = "auto"  # auto: a process a job on GPU


@dataclass
class Protocol:
    """How trained methods are evaluated. Batch size and timing do not change results."""

    batch: int = 8                              # test samples predicted at once
    latency_warmup: int = 10                    # samples before the clock starts (specs/metrics.md 5)
    latency_samples: int = 50                   # at least so many timed samples, and
    latency_seconds: float = 10.0               # at least so long; 0 samples: no timing
    keep_maps: bool = True                      # store every test map (float32)
    keep_models: bool = False                   # store the fitted method


@dataclass
class Config:
    name: str = MISSING
    demo: bool = False                          # marks every result and the report
    methods: list[str] = field(default_factory=lambda: list(methods.METHODS))  # method[/variant]
    settings: list[Literal["rgb", "3d", "rgb+3d"]] = field(default_factory=lambda: list(SETTINGS))
    seeds: list[int] = field(default_factory=lambda: [0])
    datasets: dict[str, Dataset] = field(default_factory=dict)
    resources: dict[str, Resources] = field(default_factory=dict)  # by method; "view", "dataset"
    schedule: Schedule = field(default_factory=Schedule)
    protocol: Protocol = field(default_factory=Protocol)

    def __post_init__(self):
        self.options: dict[str, Any] = {}       # method -> its Settings

    def resources_of(self, name: str) -> Resources:
        return self.resources.get(name) or self.resources.get("default") or Resources()

    def plain(self) -> dict:
        """As nested dictionaries, for the launch's record."""
        return asdict(self) | {name: asdict(value) for name, value in self.options.items()}


def find(name: str) -> Path:
    """The YAML file of that path, or of that name among the shipped configurations."""
    folder = INSTALLED if INSTALLED.is_dir() else REPOSITORY
    for path in (Path(name), folder / name, folder / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(p.stem for p in folder.glob("*.yaml"))
    raise ConfigError(f"no configuration {name!r}: give a YAML file or one of {', '.join(shipped)}")


def load(name: str = "demo", overrides: list[str] = (), data: str | None = None,
         background: str | None = None) -> Config:  # fmt: skip
    """Read a configuration and apply overrides; `data` replaces its datasets by one folder."""
    path = find(name)
    try:
        given = OmegaConf.merge({"name": path.stem}, OmegaConf.load(path))
        if data is not None:
            given.datasets = {_dataset_name(data): {"root": str(Path(data).expanduser().resolve())}}
        given = OmegaConf.merge(given, _dotlist(overrides))
        for dataset in given.get("datasets", {}).values() if background else ():
            dataset.background = background
        OmegaConf.resolve(given)
        options = {m: _typed(methods.get(m).Settings, given.pop(m, {}), m) for m in methods.METHODS}
        config = _typed(Config, given)
    except (OmegaConfBaseException, YAMLError, ConfigError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
    config.options = options
    _check(config)
    return config


def _typed(schema: Any, values: Any, prefix: str = "") -> Any:
    """`values` merged into the dataclass, every key and type checked; ConfigError otherwise."""
    node = OmegaConf.structured(schema)
    try:
        return OmegaConf.to_object(OmegaConf.merge(node, values))
    except OmegaConfBaseException as error:
        key = ".".join(filter(None, (prefix, error.full_key)))
        text = str(error).splitlines()[0]
        if isinstance(error, ConfigKeyError):
            holder = error.object_type
            known = [f.name for f in fields(holder)] if is_dataclass(holder) else []
            known += list(methods.METHODS) if holder is Config else []
            near = difflib.get_close_matches(str(error.key), known, 3, 0.6)
            text = f"unknown key; {'did you mean' if near else 'known here:'} {', '.join(near or known)}"
        raise ConfigError(f"{key}: {text}" if key else text) from error
    except (ValueError, TypeError) as error:  # a Settings class refused a value
        raise ConfigError(f"{prefix or 'configuration'}: {error}") from error


def _dotlist(overrides: list[str]) -> Any:
    for item in overrides:
        if "=" not in item or item.startswith("="):
            raise ConfigError(f"override {item!r} is not key=value, e.g. das3d.train.steps=100")
    return OmegaConf.from_dotlist(list(overrides))


def _dataset_name(root: str) -> str:
    name = Path(root).resolve().name.lower()
    if "mvtec" in name and "3d" in name:
        return "mvtec3d"
    return "eyecandies" if "eyecandies" in name else name.replace(".", "_") or "data"


def _check(config: Config) -> None:
    for entry in config.methods:
        split_entry(entry)
    if not config.datasets:
        raise ConfigError("no dataset: give one under 'datasets' or a folder with --data")
    for name in ("methods", "settings", "seeds"):
        values = getattr(config, name)
        if not values:
            raise ConfigError(f"{name} is empty: nothing to run")
        if len(set(values)) != len(values):
            raise ConfigError(f"{name} lists a value twice: {values}")
    allowed = {"default", "view", "dataset", *methods.METHODS}
    if unknown := sorted(set(config.resources) - allowed):
        raise ConfigError(f"resources for {unknown}; known: {', '.join(sorted(allowed))}")
    for name, r in config.resources.items():
        if r.cpus < 1 or r.gpus < 0 or r.memory_gb <= 0 or r.hours <= 0:
            raise ConfigError(f"resources.{name}: cpus >= 1, gpus >= 0, memory_gb and hours > 0")
        if r.gpus > 1 and r.gpus != int(r.gpus):
            raise ConfigError(f"resources.{name}.gpus is {r.gpus}: a fraction below 1 or whole GPUs")
    for name, dataset in config.datasets.items():
        if dataset.kind != "synthetic" and not dataset.root:
            raise ConfigError(
                f"datasets.{name}.root is not set: unpack MVTec 3D-AD or Eyecandies (or use your "
                f"own data) and give the folder with --data FOLDER or datasets.{name}.root=FOLDER"
            )
        if dataset.train_samples is not None and dataset.train_samples < 1:
            few = dataset.train_samples
            raise ConfigError(f"datasets.{name}.train_samples is {few}: give 1 or more")


def split_entry(entry: str) -> tuple[str, str]:
    """"das3d/untrained" -> ("das3d", "untrained"); ConfigError for unknown names.

    Variants can be joined, "3dsr/paper+no_perlin": the later ones override the earlier.
    """
    name, _, variant = entry.partition("/")
    try:
        variants = methods.get(name).variants
    except ValueError as error:
        raise ConfigError(f"methods: {error}") from error
    for part in variant.split("+") if variant else ():
        if part not in variants:
            near = difflib.get_close_matches(part, variants, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{name} has no variant {part!r}; known: {', '.join(variants)}{hint}")
    return name, variant


def settings_of(method: str, overrides: list[str] = ()) -> Any:
    """A method's Settings with overrides as on the command line, METHOD.KEY=VALUE."""
    given = _dotlist(overrides)
    if other := sorted(set(given) - {method}):
        raise ConfigError(f"{', '.join(map(str, other))}: only settings of {method} matter here")
    return _typed(methods.get(method).Settings, given.get(method, {}), method)


def with_overrides(settings: Any, overrides: dict[str, Any], name: str = "") -> Any:
    """A Settings object with dotted overrides applied, typed and checked like the command line."""
    changes = OmegaConf.create()
    for key, value in overrides.items():
        OmegaConf.update(changes, key, value)
    return _typed(settings, changes, name)
