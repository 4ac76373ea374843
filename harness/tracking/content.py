"""What a run of MLflow shows, as plain values; nothing here imports MLflow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness.store import canonical

FORM = 3  # of what is written for the same record; raise to have every run written again
KEY, LAUNCH, PARENT = "relief.key", "relief.launch", "mlflow.parentRunId"
SEEN = "relief.seen"  # of what the run was written from, by listings alone
DIGEST = "relief.digest"  # of what was written
NOTE = "mlflow.note.content"  # the description in MLflow's pages
RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
LONGEST = {"tag": 8000, "param": 6000, "name": 250}  # characters that MLflow takes


class Point(NamedTuple):
    name: str
    value: float
    at_ms: int
    step: int


@dataclass(frozen=True)
class Content:
    """One run. Times in s since 1970; ended is None while it runs."""

    name: str
    status: str
    started: float
    ended: float | None
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    points: Sequence[Point] = ()
    files: Mapping[str, Path | str] = field(default_factory=dict)  # name -> file, or its text

    @property
    def marked(self) -> dict[str, str]:
        """Its tags as MLflow takes them, with the name and the digest of all."""
        tags = {"mlflow.runName": self.name} | {k: v for k, v in self.tags.items() if v != ""}
        short = {plain_name(k): v[: LONGEST["tag"]] for k, v in tags.items()}
        return short | {DIGEST: self.digest}

    @property
    def digest(self) -> str:
        told = {k: v for k, v in self.tags.items() if k not in (SEEN, PARENT)}
        texts = {k: v for k, v in self.files.items() if isinstance(v, str)}
        return digest_of([FORM, self.name, self.status, told, self.params, self.points, texts])


def plain_name(name: str) -> str:
    """MLflow takes letters, digits and _-./ and blanks in names; p_z[1] becomes p_z.1."""
    plain = re.sub(r"\[(\d+)\]", r".\1", name)
    return re.sub(r"[^\w\-./ ]", "-", plain, flags=re.ASCII)[: LONGEST["name"]]


def text_of(value: Any) -> str:
    """A setting as a parameter: numbers and words plainly, the rest as JSON."""
    text = value if isinstance(value, str) else canonical(value)
    return text[: LONGEST["param"]]


def digest_of(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def milliseconds(epoch: float | None) -> int:
    return int((epoch or 0.0) * 1000)
