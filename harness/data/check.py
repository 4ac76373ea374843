"""Open a dataset's files and list what is wrong or odd, with what to do about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.data import registered
from harness.data.content import rotten
from harness.data.datasets import count_warnings, is_published, layout_of, unnamed
from harness.data.files import folders, printable
from harness.data.oddities import Oddity
from harness.data.plausible import Seen, look, of_listing, of_samples
from harness.data.samples import SPLITS, DataError, Dataset, Ref
from harness.data.views.choice import Choice, choose

ERROR, WARNING = "error", "warning"
PUBLISHED = ("mvtec3d", "eyecandies")  # kinds whose objects are found as published
QUICK = 3  # samples opened per category, split and defect in a quick check


@dataclass(frozen=True)
class Problem:
    severity: str
    file: str  # relative to the root where it lies below it
    problem: str
    todo: str


@dataclass
class Report:
    root: Path
    kind: str
    quick: bool
    counts: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)  # category -> rows, columns
    backgrounds: dict[str, dict[str, str]] = field(default_factory=dict)  # what "auto" takes, why
    opened: int = 0
    problems: list[Problem] = field(default_factory=list)
    known: set[Problem] = field(default_factory=set)

    @property
    def errors(self) -> int:
        return sum(problem.severity == ERROR for problem in self.problems)

    @property
    def warnings(self) -> int:
        return len(self.problems) - self.errors

    def add(self, severity: str, file: Path | None, problem: str, todo: str) -> None:
        file = file or self.root
        below = file.is_relative_to(self.root)
        name = str(file.relative_to(self.root) if below else file)
        problem, todo = (text.replace(f"{self.root}/", "") for text in (problem, todo))
        texts = (printable(text) for text in (name, problem, todo))
        one = Problem(severity, *texts)
        if one not in self.known:  # a category's camera file is read with every sample
            self.known.add(one)
            self.problems.append(one)

    def tell(self, odd: Iterable[Oddity]) -> None:
        for one in odd:
            self.add(WARNING, one.file, one.problem, one.todo)

    def groups(self) -> list[list[Problem]]:
        """Problems of which the same is to be said, but for names and numbers."""
        found: dict[tuple, list[Problem]] = {}
        for one in self.problems:
            words = (re.sub(r"\S*[\d/]\S*", "", text) for text in (one.problem, one.todo))
            where = one.file.split("/")[0]
            found.setdefault((one.severity, where, *words), []).append(one)
        return list(found.values())

    def plain(self) -> dict:
        """For JSON."""
        return {
            "root": str(self.root),
            "kind": self.kind,
            "quick": self.quick,
            "ok": not self.errors,
            "opened": self.opened,
            "counts": self.counts,
            "sizes": self.sizes,
            "backgrounds": self.backgrounds,
            "problems": [vars(problem) for problem in self.problems],
        }


def check(
    dataset: Dataset,
    quick: bool = False,
    workers: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Check the layout, the counts and every file (`quick`: of some samples)."""
    found = Report(dataset.root, dataset.kind, quick)
    _check_folders(dataset, found)
    listed: list[Ref] = []
    for name in dataset.categories:
        category = dataset.category(name)
        found.counts[name], before = {}, len(listed)
        for split in SPLITS:
            refs, faults = category.examine(split)
            listed += refs
            found.counts[name][split] = dict(sorted(Counter(ref.defect for ref in refs).items()))
            for fault in faults:
                found.add(ERROR, fault.file, fault.problem, fault.todo)
        found.tell(of_listing(category, listed[before:]))
    for line in count_warnings(dataset):
        found.add(
            WARNING,
            dataset.root / line.split()[0],
            line,
            "complete it if it is meant to be "
            "the published one: results on other samples compare with nothing",
        )
    _open_all(dataset, _some(listed) if quick else listed, found, workers, report)
    for name in () if quick else dataset.categories:
        for path in rotten(dataset.category(name)):
            found.add(
                ERROR,
                path,
                "it holds other bytes than when it was first read, at the same size and times",
                "the disk or the memory fails: restore it from a copy",
            )
    found.problems.sort(key=lambda problem: (problem.severity, problem.file))
    return found


def _check_folders(dataset: Dataset, found: Report) -> None:
    """Folders that are no category, and published categories that are not there."""
    nameless = unnamed(dataset.root)
    for fault in nameless:
        found.add(ERROR, fault.file, fault.problem, fault.todo)
    known = {fault.file for fault in nameless}
    first: dict[Path, str] = {}
    for name in dataset.categories:
        same = first.setdefault((dataset.root / name).resolve(), name)
        if same != name:
            todo = "remove the link, or give it data of its own: it would count twice"
            found.add(WARNING, dataset.root / name, f"the same folder as {same}", todo)
    for folder in folders(dataset.root):
        if folder.name not in dataset.categories and folder not in known:
            todo = f"expected {layout_of(dataset.kind).LAYOUT}: complete it, or move it elsewhere"
            found.add(WARNING, folder, "not recognised as a category, so left out", todo)
    if any(is_published(dataset.kind, dataset.root / name) for name in dataset.categories):
        names = layout_of(dataset.kind).CATEGORIES
        if missing := [name for name in names if name not in dataset.categories]:
            problem = (
                f"{len(missing)} of the {len(names)} published categories are not here: "
                f"{', '.join(missing)}"
            )
            found.add(WARNING, None, problem, "unpack them too for a full benchmark")


def _check_published_size(dataset: Dataset, category: str, size: tuple, found: Report) -> None:
    if not is_published(dataset.kind, dataset.root / category):
        return
    rows, columns = layout_of(dataset.kind).published_size(category)
    if size != (rows, columns):
        found.add(
            WARNING,
            dataset.root / category,
            f"images of {size[0]} x {size[1]} px, published with {rows} x {columns}",
            "preprocessed in place by other code? "
            "Then unpack it again: the views here start from the original files",
        )


def _open_all(
    dataset: Dataset, refs: list[Ref], found: Report, workers: int, report: Callable
) -> None:
    """Threads: reading and decoding run outside Python's lock."""
    published = dataset.kind in PUBLISHED
    opened: dict[str, list[Seen]] = {name: [] for name in dataset.categories}

    def open_one(ref: Ref) -> Seen | DataError:
        try:
            return look(ref, published)
        except DataError as fault:
            return fault

    report(0, len(refs))
    with ThreadPoolExecutor(workers) as pool:
        for ref, seen in zip(refs, pool.map(open_one, refs)):
            found.opened += 1
            if isinstance(seen, DataError):
                found.add(ERROR, seen.file, seen.problem, seen.todo)
            else:
                found.tell(seen.odd)
                opened[ref.category].append(seen)
            report(found.opened, len(refs))
    for category, all_seen in opened.items():
        if all_seen:
            _compare(dataset, category, all_seen, published, found)


def _compare(dataset: Dataset, name: str, seen: list[Seen], published: bool, found: Report) -> None:
    """What the samples of a category say together."""
    choice = None if published else _choice(dataset, name)
    if choice:
        found.backgrounds[name] = {"chosen": choice.name, "why": choice.why}
        found.tell(registered.of_category(dataset.category(name)))
    found.tell(of_samples(seen, choice))
    (usual, count), *others = Counter(one.size for one in seen).most_common()
    found.sizes[name] = list(usual)
    _check_published_size(dataset, name, usual, found)
    for one in seen if others else ():
        if one.size != usual:
            problem = (
                f"{one.size[0]} x {one.size[1]} px, and {count} samples of its category are "
                f"{usual[0]} x {usual[1]}"
            )
            found.add(WARNING, one.ref.xyz, problem, "crop or scale it alike")


def _choice(dataset: Dataset, name: str) -> Choice | None:
    """What `background: auto` takes; None where the training samples cannot be read."""
    try:
        return choose(dataset.category(name))
    except DataError:  # told already
        return None


def _some(refs: Iterable[Ref]) -> list[Ref]:
    """The first, the last and one between of every folder."""
    groups: dict[tuple, list[Ref]] = {}
    for ref in refs:
        groups.setdefault((ref.category, ref.split, ref.defect), []).append(ref)
    return [
        group[i]
        for group in groups.values()
        for i in sorted(set(np.linspace(0, len(group) - 1, QUICK).astype(int).tolist()))
    ]
