"""What to run: a YAML file merged into typed defaults, then `key=value` overrides.

Every key is typed, by the dataclasses below and by each method's own Settings under the
method's name (`das3d.train.steps=100`), so a typo or a wrong type is refused before anything
starts, with the nearest valid names.
"""

from __future__ import annotations

import difflib
import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Optional

from yaml import YAMLError

import methods
from harness.data.datasets import kinds
from harness.data.eyecandies import Options
from harness.planning import yaml12
from harness.planning.bounds import SEED_BITS, below
from harness.planning.entries import EntryError, filled, nested
from harness.planning.fitting import MISSING
from harness.planning.jobs import Protocol, Resources
from harness.planning.structured import ConfigError, resolved, structured
from harness.store import write_text
from harness.store.names import Names
from methods import plugins
from methods.declaration import SETTINGS
from methods.marks import DEMO, TEST_SELECTED
from methods.names import BASELINES

log = logging.getLogger(__name__)

LOOKS_EVERY = 0.1  # of a training: ten looks, under 1 % of one at the published sizes
REPOSITORY = Path(__file__).parents[2] / "configs"  # in a checkout
INSTALLED = Path(__file__).parents[1] / "configs"  # in an installed wheel


@dataclass
class Synthetic:
    """The dataset that the program makes itself; what is left out comes from the preset."""

    preset: str = "small"  # tiny, small, standard, paper
    layout: Literal["mvtec3d", "eyecandies"] = "mvtec3d"
    size: Optional[int] = None  # px, width and height
    train: Optional[int] = None  # samples a category
    validation: Optional[int] = None
    good: Optional[int] = None  # normal test samples a category
    per_defect: Optional[int] = None  # anomalous test samples a defect folder
    seed: int = 0


@dataclass
class Eyecandies:
    """How its files are read (harness/data/eyecandies.py: Options)."""

    light: int = Options.light
    geometry: Optional[str] = None  # none: each method's published preparation
    scale: float = Options.scale
    focal_px: float = Options.focal_px

    def __post_init__(self):
        self.reading({})  # refuses what no reader takes

    def reading(self, published: Mapping[str, Any]) -> Options:
        """published: the options that a method's authors had, which a given geometry replaces."""
        given = {k: v for k, v in asdict(self).items() if v is not None}
        return Options(**{**(published if self.geometry is None else {}), **given})


@dataclass
class Dataset:
    kind: str = "auto"  # auto, mvtec3d, folder, eyecandies, synthetic, or a plug-in's
    root: Optional[str] = None  # folder that holds the categories
    categories: Optional[list[str]] = None  # None: all there are
    train_samples: Optional[int] = None  # few-shot: so many drawn by seed; None: all
    # how the object is told from the rest (harness/data/README.md, section 4):
    #   "auto": the published datasets' as published, your own data's chosen by its training samples
    background: Literal["auto", "plane", "published", "mask", "none"] = "auto"
    nonfinite: Literal["error", "missing"] = "error"  # what NaN and infinite points are
    scale: float = 1.0  # metres per unit of the clouds (mvtec3d, folder)
    max_depth: float = 0.0  # m, points beyond are missing; 0: no limit (mvtec3d, folder)
    colour_bits: int = 0  # of 16-bit images; 0: judged by the largest value of each (the same)
    eyecandies: Eyecandies = field(default_factory=Eyecandies)
    synthetic: Synthetic = field(default_factory=Synthetic)
    options: dict[str, Any] = field(default_factory=dict)  # of a plug-in's reader

    def folder(self, name: str, others: Sequence[str] = ()) -> str:
        """`root`, of the dataset of that name. Raises ConfigError if it is not set.

        others: datasets of the same configuration that have one
        """
        if not self.root:
            meant = f" (datasets with a folder: {', '.join(others)})" if others else ""
            raise ConfigError(
                f"datasets.{name}.root is not set{meant}: unpack MVTec 3D-AD or Eyecandies (or use "
                f"your own data) and give the folder with --data FOLDER or "
                f"datasets.{name}.root=FOLDER"
            )
        return self.root


@dataclass
class Schedule:
    retries: int = 2  # further attempts after a crash or lost node
    checkpoint_every_s: float = 60.0
    isolation: Literal["auto", "worker", "process"] = "auto"  # auto: a process a job on GPU
    node_check_s: float = 120.0  # how long a node of a cluster may take to answer the first check
    mlflow_wait_s: float = 60.0  # the longest wait at the end for another writer of MLflow
    silence_minutes: float = 1.0  # a process at a job that gives no sign of life so long is ended
    reconnect_minutes: float = 10.0  # how long a lost cluster (--address) is waited for
    packing_margin: float = 0.2  # reserved beyond the memory that jobs alike took, a share of it


@dataclass
class Training:
    """How trainings in steps are looked at on the way, and whose step's network is tested.

    A look scores validation samples, normal ones and such with simulated defects. It changes
    nothing of the training, so only `selection` and what it goes by are part of a job's key.
    """

    # share of a training's steps between two looks; none: no looks but where they are used, by
    # best_validation and by sweeps that stop early, and there 0.1
    validate_every: Optional[float] = None
    selection: Literal["last", "best_validation"] = "last"  # last: as in the papers
    metric: Literal["i_auroc", "p_auroc", "aupro_0.3"] = "i_auroc"  # of best_validation

    @property
    def every(self) -> float:
        """Where looks are used."""
        return self.validate_every or LOOKS_EVERY


@dataclass
class Numerics:
    """How float32 is computed on a GPU (harness/engine/numerics.py); what is chosen is in keys."""

    tf32: bool = False  # products and convolutions by 10 bits of mantissa: faster, other maps
    deterministic: bool = False  # only operators that sum in a fixed order: slower, same bits

    def plain(self) -> dict[str, dict[str, bool]]:
        """For the spec of a job; empty at the defaults."""
        chosen = {name: True for name, on in asdict(self).items() if on}
        return {"numerics": chosen} if chosen else {}


@dataclass
class Config:
    name: str = MISSING
    demo: bool = False  # marks every result and the report
    selected_on: Literal["validation", "test"] = "validation"  # "test" marks every row
    # method[/variant]; the baselines once for each of their cues
    methods: list[str] = field(
        default_factory=lambda: list(dict.fromkeys([*methods.METHODS, *BASELINES]))
    )
    settings: list[Literal["rgb", "3d", "rgb+3d"]] = field(default_factory=lambda: list(SETTINGS))
    seeds: list[int] = field(default_factory=lambda: [0])
    datasets: dict[str, Dataset] = field(default_factory=dict)
    resources: dict[str, Resources] = field(default_factory=dict)  # by method; "view", "dataset"
    schedule: Schedule = field(default_factory=Schedule)
    protocol: Protocol = field(default_factory=Protocol)
    training: Training = field(default_factory=Training)
    numerics: Numerics = field(default_factory=Numerics)
    # method -> name -> dotted settings, beside or in place of the method's own variants
    variants: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    plugins: list[str] = field(default_factory=list)  # files, folders and modules of other people

    def __post_init__(self):
        self.options: dict[str, Any] = {}  # method -> its Settings
        self.names = Names()  # of the store that it is planned for
        self.tell: Callable[[str], None] = log.warning  # takes a line when planning takes long

    @property
    def marks(self) -> list[str]:
        """What every table must say beside the results of this configuration."""
        return [DEMO] * self.demo + [TEST_SELECTED] * (self.selected_on == "test")

    def resources_of(self, name: str) -> Resources:
        """What a job of this method, or "view" or "dataset", reserves as long as none was measured.

        An entry of its own is what is reserved at any time, unless it says fixed: false.
        """
        if own := self.resources.get(name):
            return replace(own, fixed=own.fixed is not False)
        found = self.resources.get("default") or Resources()
        gpus = 0.0 if name in ("view", "dataset") else found.gpus  # these compute on the CPU
        return replace(found, gpus=gpus, fixed=found.fixed is True)

    def variants_of(self, method: str) -> dict[str, dict[str, Any]]:
        """Name -> changes of the settings: the method's own, then those of this configuration."""
        return {**methods.declared(method).variants, **self.variants.get(method, {})}

    def split(self, entry: str) -> tuple[str, str]:
        """ "das3d/untrained" -> ("das3d", "untrained"); ConfigError for unknown names.

        Variants can be joined, "3dsr/paper+no_perlin": the later ones override the earlier.
        """
        name, _, variant = entry.partition("/")
        try:
            known = self.variants_of(name)
        except ValueError as error:
            raise ConfigError(f"methods: {error}") from error
        for part in variant.split("+") if variant else ():
            if part not in known:
                near = difflib.get_close_matches(part, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(
                    f"{name} has no variant {part!r}; known: {', '.join(known)}{hint}"
                )
        return name, variant

    def settings_of(self, method: str, variant: str) -> Any:
        """The method's Settings with the variant's changes."""
        settings = self.options[method]
        for part in filter(None, variant.split("+")):
            changes = self.variants_of(method)[part]
            settings = with_overrides(settings, changes, f"{method}/{part}")
        return settings

    def supported(self, entry: str) -> list[str]:
        """Those of the settings asked for that a method or variant has, in their order."""
        method, variant = self.split(entry)
        there = methods.declared(method).supported(self.settings_of(method, variant))
        return [setting for setting in self.settings if setting in there]

    def plain(self) -> dict:
        """As nested dictionaries, for the launch's record."""
        return asdict(self) | {name: asdict(value) for name, value in self.options.items()}


def find(name: str, kind: Literal["", "sweeps", "studies"] = "") -> Path:
    """The YAML file of that path, or of that name among the shipped ones of a kind."""
    folder = (INSTALLED if INSTALLED.is_dir() else REPOSITORY) / kind
    for path in (Path(name), folder / name, folder / f"{name}.yaml"):
        if path.is_file():
            return path
    whats = {"": "configuration", "sweeps": "sweep", "studies": "study"}
    for other in ("sweeps", "studies"):
        if other != kind and name in shipped(other):
            what = whats[other]
            raise ConfigError(f"{name} is a {what}, no {whats[kind]}: relief {what} {name}")
    if not kind and name.partition("/")[0] in methods.METHODS:
        raise ConfigError(f"{name} is a method, no configuration: relief run methods=[{name}]")
    known = shipped(kind)
    pool = known if kind else [*known, *shipped("studies"), *shipped("sweeps")]
    near = difflib.get_close_matches(name, pool, 3, 0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ":"
    there = f"one of {', '.join(known)}" if not (near and kind) else "another"  # those are many
    raise ConfigError(f"no {whats[kind]} {name!r}{hint} give a YAML file or {there}")


def shipped(kind: Literal["", "sweeps", "studies"] = "") -> list[str]:
    """Names of the configurations, sweeps or studies that come with the program."""
    folder = (INSTALLED if INSTALLED.is_dir() else REPOSITORY) / kind
    found = folder.rglob("*.yaml") if kind else folder.glob("*.yaml")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in found)


def load(
    name: str = "demo",
    overrides: Sequence[str] = (),
    data: str | None = None,
    background: str | None = None,
) -> Config:
    """Read a configuration and apply overrides; `data` replaces its datasets by one folder.

    A method that is asked for by name must have one of the settings; of a configuration's own list
    those without are left out.
    """
    source = find(name).name
    config = typed(read(name, overrides, data, background), source)
    if wrong := next(_below(config), None):
        raise ConfigError(f"{source}: {wrong}")
    if any(item.startswith("methods=") for item in overrides):
        for entry in config.methods:
            check_supported(config, entry)
    return config


def _below(config: Config) -> Iterator[str]:
    """What no launch can mean; records of earlier ones are read with it."""
    if not (config.name and config.name.isprintable()):
        yield f"name is {config.name!r}: give a word, the launch and its report are called so"
    for i, seed in enumerate(config.seeds):
        if abs(seed) >> SEED_BITS:
            yield f"seeds[{i}] is {seed}: give one of less than {SEED_BITS} bits"
    for part in ("schedule", "protocol"):
        yield from below(getattr(config, part), getattr(Config(), part), part)
    for entry in config.methods:
        method, variant = config.split(entry)
        usual = methods.declared(method).Settings()
        yield from below(config.settings_of(method, variant), usual, method)


def check_supported(config: Config, entry: str) -> None:
    """Raise ConfigError if a method or variant has none of the settings asked for."""
    if not config.supported(entry):
        method, variant = config.split(entry)
        there = methods.declared(method).supported(config.settings_of(method, variant))
        raise ConfigError(
            f"methods: {entry} has the settings {', '.join(there)}, and only "
            f"{', '.join(config.settings)} is asked for"
        )


def read(
    name: str = "demo",
    overrides: Sequence[str] = (),
    data: str | None = None,
    background: str | None = None,
) -> dict[str, Any]:
    """What `load` reads, before it is checked: plain values that make a YAML file."""
    path = find(name)
    try:
        given = on_data({"name": path.stem} | _whole(path), data)
        given = filled(given, _changes(overrides))
        return on_background(with_plugins(resolved(given)), background)
    except (ConfigError, EntryError) as error:
        raise ConfigError(f"{path.name}: {error}") from error


def _whole(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's values over those of the configuration that it names as its base, if it does.

    A dataset of the base that is null in the file is left out. above: files that build on it
    """
    given = _loaded(path)
    if (base := given.pop("base", None)) is None:
        return given
    under, above = find(str(base)), (*above, path.resolve())
    if under.resolve() in above:
        raise ConfigError(f"base: {base} builds on {path.name} itself")
    whole = filled({k: v for k, v in _whole(under, above).items() if k != "name"}, given)
    datasets = {name: dataset for name, dataset in whole.get("datasets", {}).items() if dataset}
    return whole | {"datasets": datasets}


def on_data(given: dict[str, Any], data: str | None) -> dict[str, Any]:
    """With its datasets replaced by one folder, if there is one."""
    if data is not None:
        given["datasets"] = {_dataset_name(data): {"root": str(Path(data).expanduser().resolve())}}
    return given


def with_plugins(given: dict[str, Any]) -> dict[str, Any]:
    """With those of the command line or the environment beside its own, which count from now on."""
    own = given.get("plugins", [])
    if not isinstance(own, list):
        raise ConfigError(f"plugins is {own!r}; give a list of files, folders and modules")
    plugins.use([*plugins.given(), *map(str, own)])
    return given | ({"plugins": list(plugins.given())} if plugins.given() else {})


def on_background(given: dict[str, Any], background: str | None) -> dict[str, Any]:
    """With the background of all its datasets set, if it is given."""
    for dataset in given.get("datasets", {}).values() if background else ():
        dataset["background"] = background
    return given


def plain_values(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A YAML file with `key=value` overrides, as plain values."""
    try:
        return filled(_loaded(path), _changes(overrides))
    except EntryError as error:
        raise ConfigError(str(error)) from error


def merge(
    given: dict[str, Any], changes: dict[str, Any], overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """What `read` gave with nested changes, then `key=value` overrides."""
    return filled(filled(given, changes), _changes(overrides))


def write_yaml(given: dict[str, Any], path: Path, comment: str) -> None:
    write_text(path, f"# {comment}\n{yaml12.dumped(given)}\n")


def typed(given: dict[str, Any], source: str) -> Config:
    """The configuration that these values make, every key and type checked. source: for errors."""
    given = dict(given)
    if "plugins" in given:  # of a launch's record, say
        plugins.use(given["plugins"])
    try:
        asked = [str(entry).partition("/")[0] for entry in given.get("methods") or ()]
        foreign = [name for name in (*asked, *given) if _foreign(name)]
        options = {
            m: _options(
                m, methods.declared(m).Settings, json.dumps(given.pop(m, {}), sort_keys=True)
            )
            for m in dict.fromkeys((*methods.METHODS, *foreign))
        }
        config = structured(Config, given, others=methods.known)
        config.options = options
        _check(config)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return config


def _foreign(name: str) -> bool:
    """Whether a plug-in has a method of that name."""
    known = name in methods.METHODS or name in {f.name for f in fields(Config)}
    return not known and methods.offered(name) is not None


@functools.lru_cache(maxsize=64)  # sweeps and studies ask for the same ones again and again
def _options(method: str, settings: type, values: str) -> Any:
    """The Settings of a method from its values as JSON."""
    return structured(settings, json.loads(values), method)


def _loaded(path: Path) -> dict[str, Any]:
    """A YAML file as it stands, interpolations not resolved."""
    try:
        values = yaml12.load(path.read_text(encoding="utf-8-sig"))
    except YAMLError as error:
        raise ConfigError(yaml12.told(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"it is no text in UTF-8 ({error}): save it so") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"it holds {'nothing' if values is None else type(values).__name__}, "
            "not keys with values"
        )
    return values


def _changes(overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as nested values, the later over the earlier."""
    changes: dict[str, Any] = {}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {item!r} is not key=value, e.g. das3d.train.steps=100")
        try:
            value = yaml12.load(text, key)
        except YAMLError as error:
            raise ConfigError(f"override {item!r}: {yaml12.told(error)}") from error
        changes = filled(changes, nested(key, value))
    return changes


def _dataset_name(root: str) -> str:
    name = Path(root).resolve().name.lower()
    if "mvtec" in name and "3d" in name:
        return "mvtec3d"
    return "eyecandies" if "eyecandies" in name else name.replace(".", "_") or "data"


def _check(config: Config) -> None:
    for method, variants in config.variants.items():
        if method not in config.options:
            raise ConfigError(
                f"variants: unknown method {method!r}; known: {', '.join(config.options)}"
            )
        for variant in variants:
            config.settings_of(method, variant)
    for entry in config.methods:
        config.split(entry)
    every = config.training.validate_every
    if every is not None and not 0 < every <= 1:
        raise ConfigError(
            f"training.validate_every is {every}: a share of a training above 0, up to 1; leave it "
            "out for no looks"
        )
    if not config.datasets:
        raise ConfigError(
            "no dataset: give a folder with --data, or one under 'datasets' of a file of your own "
            "(`relief init` writes one)"
        )
    for name in ("methods", "settings", "seeds"):
        values = getattr(config, name)
        if not values:
            raise ConfigError(f"{name} is empty: nothing to run")
        if len(set(values)) != len(values):
            raise ConfigError(f"{name} lists a value twice: {values}")
    allowed = {"default", "view", "dataset", *config.options}
    if unknown := sorted(set(config.resources) - allowed):
        raise ConfigError(f"resources for {unknown}; known: {', '.join(sorted(allowed))}")
    for name, r in config.resources.items():
        if r.cpus < 1 or r.gpus < 0 or r.memory_gb <= 0 or r.hours <= 0:
            raise ConfigError(f"resources.{name}: cpus >= 1, gpus >= 0, memory_gb and hours > 0")
        if r.gpus > 1 and r.gpus != int(r.gpus):
            raise ConfigError(
                f"resources.{name}.gpus is {r.gpus}: a fraction below 1 or whole GPUs"
            )
    for name, dataset in config.datasets.items():
        if dataset.kind not in (known := ("auto", "synthetic", *kinds())):
            known = ", ".join(known)
            raise ConfigError(f"datasets.{name}.kind is {dataset.kind!r}; known: {known}")
        if dataset.kind != "synthetic":
            dataset.folder(name, [other for other, d in config.datasets.items() if d.root])
        if dataset.train_samples is not None and dataset.train_samples < 1:
            few = dataset.train_samples
            raise ConfigError(f"datasets.{name}.train_samples is {few}: give 1 or more")


def settings_of(method: str, overrides: Sequence[str] = (), base: Any = None) -> Any:
    """A method's Settings with overrides as on the command line, METHOD.KEY=VALUE.

    base: settings that they change, by default the method's own
    """
    given = _changes(overrides)
    if other := sorted(set(given) - {method}):
        raise ConfigError(f"{', '.join(map(str, other))}: only settings of {method} matter here")
    usual = methods.declared(method).Settings
    found = structured(usual if base is None else base, given.get(method, {}), method)
    if wrong := next(below(found, usual(), method), None):
        raise ConfigError(wrong)
    return found


def with_overrides(settings: Any, overrides: dict[str, Any], name: str = "") -> Any:
    """A Settings object with dotted overrides applied, typed and checked like the command line."""
    changes: dict[str, Any] = {}
    for key, value in overrides.items():
        changes = filled(changes, nested(key, value))
    return structured(settings, changes, name)
