"""The record of a job: what a finished job left, under which names, and how each is read.

    jobs/KEY/result.json      the record itself: `Record`
    jobs/KEY/scores.parquet   a cell's image scores: id, defect, label, score, in test order
    jobs/KEY/maps.npy         its anomaly maps (n, H, W), of all test images or of some
    jobs/KEY/maps.json        which images these are
    jobs/KEY/pro_curve.npz    its PRO curves: fpr_100, pro_100, fpr_exact, pro_exact
    jobs/KEY/curve.csv        losses while it trained (harness/store/curve.py)
    jobs/KEY/validation.csv   its scores on validation samples meanwhile, where they were looked at
    jobs/KEY/model/           the fitted method, where it was asked for

What it was asked to do is its spec: harness/store/specs.py. What a view leaves is in
harness/store/prepared.py, what a stage leaves is its method's own.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.curve import Points, read_curve, read_looks
from harness.store.files import checksum, unsealed, write_json
from harness.store.specs import Spec
from methods.errors import UserError
from methods.validation import Look

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

DONE, FAILED, TIMEOUT, OUT_OF_MEMORY, SKIPPED, DAMAGED = (
    "done", "failed", "timeout", "out_of_memory", "skipped", "damaged",
)  # fmt: skip
IDENTITY = ("method", "variant", "setting", "dataset", "category", "seed")  # of a cell

PROTOCOLS = COMMON, PAPER = ("common", "paper")  # harness/metrics/README.md, section 1
SCHEMA = 2  # of result.json; raise when a reader must know of a change
#   1: no "files"; still read, its files cannot be verified
RESULT = "result.json"
SCORES = "scores.parquet"
MAPS, MAP_IDS = "maps.npy", "maps.json"
CURVES = "pro_curve.npz"
MODEL = "model"
EVIDENCE = (SCORES, MAPS, MAP_IDS, CURVES)  # what every cell leaves, also those of schema 1

AGAIN = "the same `relief run` computes it again"
ASIDE = "`relief store check --deep --repair` sets it aside, then the same `relief run` heals it"


def title_of(cell: Mapping[str, Any]) -> str:
    """A cell's identity as people read it: what is empty is left out."""
    return " ".join(str(cell[name]) for name in IDENTITY if cell.get(name, "") != "")


class RecordError(UserError):
    """A record that this version cannot read; the message says what to do."""


class DamagedError(UserError):
    """A file of a finished job is not what its record says; the message names it.

    key: the job's, whose result counts as not there; remedy: what brings it back
    """

    def __init__(self, key: str, why: str, remedy: str = AGAIN):
        super().__init__(key, why, remedy)
        self.key, self.why, self.remedy = key, why, remedy

    def __str__(self) -> str:
        return self.why

    @property
    def advice(self) -> str:
        """What is wrong and what to do, in one line."""
        return f"{self.why}; {self.remedy}"


@dataclass(frozen=True)
class Maps:
    """Stored anomaly maps: ids (n,), values (n, H, W), mapped from their file."""

    ids: tuple[str, ...]
    values: np.ndarray

    @cached_property
    def at(self) -> dict[str, int]:
        """Id -> its row."""
        return {id: i for i, id in enumerate(self.ids)}


@dataclass(frozen=True)
class Record:
    """What a job that ended says of itself, and its files. Parts that it lacks are empty.

    values: of result.json, or of a failure; folder: where the job's files are
    """

    values: Mapping[str, Any]
    folder: Path

    @classmethod
    def read(cls, path: Path) -> Record:
        """The record in a file. Raises FileNotFoundError, DamagedError, RecordError."""
        text = path.read_bytes()
        try:
            return cls.of(unsealed(text), path)
        except ValueError as error:
            if isinstance(error, RecordError | DamagedError):
                raise
            raise DamagedError(_key_of(path), f"{path} is damaged: {error}") from error

    @classmethod
    def of(cls, values: Any, path: Path) -> Record:
        """Of what the file `path` holds. Raises DamagedError, RecordError."""
        known = values if isinstance(values, dict) else {}
        lacking = [
            k
            for k, kind in (("status", str), ("schema", int))
            if not isinstance(known.get(k), kind)
        ]
        if lacking:
            why = f"{path} is damaged: it has no {' and no '.join(lacking)}"
            raise DamagedError(_key_of(path), why)
        if known["schema"] > SCHEMA:
            raise RecordError(
                f"{path} was written by a newer version (schema {known['schema']}, this one reads "
                f"up to {SCHEMA}): update this installation, or choose another store with --store"
            )
        return cls(known, path.parent)

    @classmethod
    def damaged(cls, error: DamagedError, folder: Path) -> Record:
        """What stands for a job whose record or files are damaged: it is not done."""
        return cls({"key": error.key, "status": DAMAGED, "reason": error.advice}, folder)

    def check(self, contents: bool = False) -> None:
        """Raise DamagedError if a file is not there, not of its size or, asked for, not the same.

        Of a record of schema 1, which lists no files, only a cell's are known by name.
        """
        if self.schema == 1 and self.kind == "cell":
            for path in (self.folder / name for name in EVIDENCE):
                if not path.is_file() or not path.stat().st_size:
                    why = f"{path} is {'empty' if path.is_file() else 'missing'}"
                    raise DamagedError(self.key, why)
        for name, (size, _) in self.files.items():
            try:
                found = (self.folder / name).stat().st_size
            except OSError:
                raise DamagedError(self.key, f"{self.folder / name} is missing") from None
            if found != size:
                why = f"{self.folder / name} has {found} bytes and should have {size}"
                raise DamagedError(self.key, why)
        if contents:
            self.check_contents(*self.files)

    def check_contents(self, *names: str) -> None:
        """Raise DamagedError if one of these files is not byte by byte what the job wrote."""
        for name in names:
            if name not in self.files:
                continue
            try:
                same = checksum(self.folder / name) == self.files[name][1]
            except OSError as error:
                why = f"{self.folder / name} cannot be read: {error.strerror or error}"
                raise DamagedError(self.key, why, ASIDE) from error
            if not same:
                why = f"{self.folder / name} has other bytes than its job wrote"
                raise DamagedError(self.key, why, ASIDE)

    @property
    def files(self) -> dict[str, tuple[int, str]]:
        """Name below the folder -> size in bytes, checksum."""
        return {name: (size, digest) for name, (size, digest) in self._map("files").items()}

    @property
    def schema(self) -> int:
        return self.values["schema"]

    @property
    def key(self) -> str:
        return self.values["key"]

    @property
    def kind(self) -> str:
        return self.spec.values.get("kind", "")

    @property
    def title(self) -> str:
        return self.values.get("title", self.key)

    @property
    def status(self) -> str:
        return self.values["status"]

    @property
    def done(self) -> bool:
        return self.status == DONE

    @property
    def reason(self) -> str:
        """Why it is not done; empty if it is."""
        return self.values.get("reason", "")

    @property
    def log(self) -> list[str]:
        return self._list("log")

    @property
    def attempt(self) -> int | None:
        return self.values.get("attempt")

    @property
    def started(self) -> float | None:
        """Seconds since 1970, as `ended`."""
        return self.values.get("started")

    @property
    def ended(self) -> float | None:
        return self.values.get("ended")

    @cached_property
    def spec(self) -> Spec:
        return Spec(self._map("spec"))

    @property
    def metrics(self) -> dict[str, float | None]:
        """By name, shares in [0, 1]; None where undefined."""
        return self._map("metrics")

    @property
    def validation(self) -> dict[str, float | None]:
        """The same on normal validation samples and simulated defects."""
        return self._map("validation")

    @property
    def selected(self) -> dict[str, Any]:
        """The step whose network was tested, if not the last: phase, step, total, metric, value."""
        return self._map("selected")

    @property
    def signatures(self) -> dict[str, str]:
        return self._map("signatures")

    @property
    def protocols(self) -> dict[str, dict[str, Any]]:
        """Beside the paper's own, whose are `metrics`: "metrics" and "signatures" of others."""
        return self._map("protocols")

    @property
    def truth(self) -> str | None:
        """Key of the ground truth that a cell was scored against in the common protocol."""
        return self.values.get("truth")

    @property
    def counts(self) -> dict[str, int]:
        return self._map("counts")

    @property
    def data(self) -> dict[str, Any]:
        """What a cell was scored on (harness/store/origin.py); empty of earlier versions."""
        return self._map("data")

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by phase."""
        return self._map("timings")

    @property
    def speed(self) -> dict[str, Any]:
        return self._map("speed")

    @property
    def memory(self) -> dict[str, int | None]:
        """Peaks in bytes; None where the system cannot tell."""
        return self._map("memory")

    @property
    def sizes(self) -> dict[str, Any]:
        return self._map("sizes")

    @property
    def notes(self) -> dict[str, str]:
        return self._map("notes")

    @property
    def marks(self) -> list[str]:
        return self._list("marks")

    @property
    def environment(self) -> dict[str, Any]:
        return self._map("environment")

    @property
    def summary(self) -> dict[str, Any]:
        """What a view says of its samples."""
        return self._map("summary")

    @property
    def twin(self) -> str | None:
        """Key of the view whose files a view took over."""
        return self.values.get("twin")

    def scores(self) -> pyarrow.Table | None:
        """Image scores of a cell: id, defect, label, score, in test order; None if not kept."""
        import pyarrow.parquet as pq

        path = self.folder / SCORES
        if not path.exists():
            return None
        self.check_contents(SCORES)
        with self._reading(path):
            return pq.ParquetFile(path).read()

    @property
    def maps_kept(self) -> int:
        """How many anomaly maps are there; their file is not read."""
        if not (self.folder / MAPS).exists() or not (self.folder / MAP_IDS).exists():
            return 0
        return len(self._map_ids())

    def maps(self) -> Maps | None:
        """Its anomaly maps, those that were kept; None if none was."""
        if not (self.folder / MAPS).exists() or not (self.folder / MAP_IDS).exists():
            return None
        self.check_contents(MAPS)
        ids = self._map_ids()
        import numpy as np

        with self._reading(self.folder / MAPS):
            return Maps(ids, np.load(self.folder / MAPS, mmap_mode="r", allow_pickle=False))

    def _map_ids(self) -> tuple[str, ...]:
        self.check_contents(MAP_IDS)
        with self._reading(self.folder / MAP_IDS):
            return tuple(json.loads((self.folder / MAP_IDS).read_text(encoding="utf-8"))["ids"])

    def curves(self) -> dict[str, np.ndarray] | None:
        """Its PRO curves by name; None if not kept."""
        path = self.folder / CURVES
        if not path.exists():
            return None
        self.check_contents(CURVES)
        import numpy as np

        with self._reading(path), np.load(path, allow_pickle=False) as file:
            return dict(file)

    def losses(self) -> dict[str, Points]:
        """Phase -> (step, loss) in order."""
        return read_curve(self.folder)

    def looks(self) -> list[Look]:
        """Its scores on validation samples while it trained, in order; empty without."""
        return read_looks(self.folder)

    @contextmanager
    def _reading(self, path: Path) -> Generator[None]:
        """Whatever a library says of a file that it cannot read becomes one error that names it.

        Only files of schema 1, which have no checksum, come so far in a damaged state.
        """
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DamagedError(self.key, f"{path} cannot be read: {error}", ASIDE) from error

    def _map(self, name: str) -> dict[str, Any]:
        return self.values.get(name) or {}

    def _list(self, name: str) -> list[Any]:
        return self.values.get(name) or []


def _key_of(path: Path) -> str:
    """Of the file of a record, or of a failure."""
    return path.parent.name if path.name == RESULT else path.stem


def write_scores(
    folder: Path,
    ids: Sequence[str],
    defects: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
) -> None:
    """What `Record.scores` reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"id": list(ids), "defect": list(defects), "label": labels, "score": scores}
    pq.write_table(pa.table(columns), folder / SCORES)


def write_maps(folder: Path, ids: Sequence[str], values: np.ndarray) -> None:
    """What `Record.maps` reads."""
    import numpy as np

    np.save(folder / MAPS, values)
    write_json(folder / MAP_IDS, {"ids": list(ids)})


def write_curves(folder: Path, curves: Mapping[str, np.ndarray]) -> None:
    """What `Record.curves` reads."""
    import numpy as np

    # to numpy's stub any of the names might be allow_pickle, an option of newer versions
    np.savez_compressed(folder / CURVES, **curves)  # pyrefly: ignore[bad-argument-type]
