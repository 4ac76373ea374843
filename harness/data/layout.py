"""What a reader of a dataset has to know: the protocol of mvtec3d.py, eyecandies.py and plug-ins.

A reader says which folders are categories and makes a `Category` of each, whose samples are `Ref`s
(harness/data/samples.py): where the files are, and how they become a `Sample`. Ours are modules
with these names; a plug-in's is a subclass of `Reader`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from harness.data.samples import Category

Counts = dict[str, dict[str, int]]  # split -> samples by defect


class Layout(Protocol):
    LAYOUT: Any  # what folders hold, in a line, for messages
    CATEGORIES: Any  # names of the published release; () without one
    Options: Any  # dataclass: how files are read; part of the keys of what is read

    def is_category(self, folder: Path) -> bool:
        """Whether a folder below the root is a category. Looks at names, opens no image."""
        ...

    def make_category(self, name: str, folder: Path, options: Any) -> Category: ...

    def published(self, name: str) -> Counts | None:
        """The counts of a published category; None for any other."""
        ...

    def published_size(self, name: str) -> tuple[int, int]:
        """Rows and columns of a published category's images."""
        ...


@dataclass(frozen=True)
class NoOptions:
    """Files are read in one way only."""


class Reader(ABC):
    """A layout from outside. It must have `name`, `LAYOUT`, and the two abstract functions."""

    registry: ClassVar[str] = "datasets"  # in a plug-in's file it is found by this
    name: ClassVar[str]  # `kind` of a dataset
    LAYOUT: ClassVar[str]
    CATEGORIES: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type] = NoOptions  # every field with a default of its type

    @abstractmethod
    def is_category(self, folder: Path) -> bool: ...

    @abstractmethod
    def make_category(self, name: str, folder: Path, options: Any) -> Category: ...

    def published(self, name: str) -> Counts | None:
        return None

    def published_size(self, name: str) -> tuple[int, int]:
        raise KeyError(name)
