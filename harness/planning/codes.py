"""Which of our modules compute what a job leaves, and what was changed in them.

Code that is as declared (methods/declared.txt) stands in no key: the versions of methods, stages,
views and generators say which it is. Whatever differs stands in the key by file and meaning, so
results of changed code lie beside the others, and changing it back finds them again.

    python -m harness.planning.codes            # what is not as declared, of whose results
    python -m harness.planning.codes declare    # now it is: versions are raised, or numbers stay
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.store import Store
from harness.store.names import Names
from methods import METHODS, code, plugins
from methods.errors import UserError

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from methods.declaration import View

# What stands between a method and its samples; not what it imports, which has parts of its own.
BETWEEN = (
    "harness.data.blind",
    "harness.data.cache",
    "harness.engine.evaluation",
    "harness.engine.runners",
)
VIEWS, BUILD, TRUTH = "harness.data.views", "harness.data.views.build", "harness.data.truth"
GENERATOR, METRICS = "harness.data.synthetic.generate", "harness.metrics"
READERS = ("harness.data.mvtec3d", "harness.data.eyecandies")


def of_method(name: str, offer: plugins.Offer | None, same: Mapping[str, str]) -> dict[str, str]:
    """What was changed of a method: file -> meaning, as in `Sources.altered`.

    offer: the plug-in that it is from; of that, what it uses of ours
    """
    module = METHODS.get(name, "").partition(":")[0]
    return code.ours().altered(_roots(module, offer), BETWEEN, same)


def of_stage(
    name: str, stage: type, offer: plugins.Offer | None, same: Mapping[str, str]
) -> dict[str, str]:
    """Of a stage of a method: its own module, which the method's imports the class of that name
    from, and not what else the method has.
    """
    module = METHODS.get(name, "").partition(":")[0]
    found = code.ours().import_of(module, stage.__name__, but="declaration") if module else None
    return code.ours().altered(_roots(found or module, offer), BETWEEN, same)


def of_view(
    recipe: View,
    reader: str,
    offers: tuple[plugins.Offer | None, plugins.Offer | None],
    same: Mapping[str, str],
) -> dict[str, str]:
    """Of a view. reader: the module that reads the data; offers: the plug-ins that builder and
    reader are from
    """
    builder = f"{VIEWS}.{(recipe.same_as or type(recipe)).name}"
    roots = [BUILD, *_roots(builder, offers[0]), *_roots(reader, offers[1])]
    return code.ours().altered(roots, same=same)


def of_truth(reader: str, offer: plugins.Offer | None, same: Mapping[str, str]) -> dict[str, str]:
    return code.ours().altered([TRUTH, *_roots(reader, offer)], same=same)


def of_dataset(same: Mapping[str, str]) -> dict[str, str]:
    return code.ours().altered([GENERATOR], same=same)


def of_metrics() -> dict[str, str]:
    """Of the metrics, whose code stands in their signatures and in no key."""
    return code.ours().altered([METRICS])


def _roots(module: str, offer: plugins.Offer | None) -> list[str]:
    return [module] if offer is None else code.ours().imported(plugins.files(offer.source)[1])


def accepting(store: Store, earlier: Sequence[str] | None) -> Names:
    """The store's names, with results by these earlier meanings of modules taken for today's.

    Raises UserError if nobody knows one.
    """
    if not earlier:
        return store.filed_as
    ours, names = code.ours(), store.filed_as
    known = {now: file for file, now in ours.declared.items()}
    known |= {now: file for seen in _seen(store) for file, now in seen.items()}
    for meaning in earlier:
        if meaning not in known:
            raise UserError(
                f"no code {meaning!r} is known here: `relief plan` lists those of changed modules"
            )
        names = names.taking(ours.read(known[meaning]).meaning, meaning)
    return names


@dataclass(frozen=True)
class Earlier:
    """Code whose results a plan could take: cells that were done by it and are not by today's.

    codes: file that was changed since -> its meaning then
    """

    codes: Mapping[str, str]
    cells: int


def earlier_codes(plan: Plan, store: Store) -> list[Earlier]:
    """As the modules were declared, and as they were in each launch of the store."""
    from harness.planning.expand import build

    declared = code.ours().declared
    now = sum(store.done(cell["key"]) for cell in plan.cells)
    found: list[Earlier] = []
    for state in ({}, *_seen(store)):
        then = {file: state.get(file, declared.get(file, "")) for file in plan.code}
        codes = {file: old for file, old in then.items() if old != plan.code[file]}
        if not codes or not all(codes.values()) or any(one.codes == codes for one in found):
            continue
        names = plan.config.names
        for file, old in codes.items():
            names = names.taking(plan.code[file], old)
        other = build(plan.config, names)
        found.append(Earlier(codes, sum(store.done(cell["key"]) for cell in other.cells) - now))
    return [one for one in found if one.cells > 0]


def _seen(store: Store) -> list[dict[str, str]]:
    """Of launches, which modules were not as declared: file -> meaning."""
    return [launch["code"] for launch in store.launches() if launch.get("code")]


def _everything(sources: code.Sources) -> dict[str, frozenset[str]]:
    """All that computes results: what it is -> its files."""
    views = sorted((sources.root / VIEWS.replace(".", "/")).glob("*.py"))
    names = [f"{VIEWS}.{path.stem}" for path in views if path.stem != "preview"]
    found = {name: sources.files((at.split(":")[0],), BETWEEN) for name, at in METHODS.items()}
    found["views"] = sources.files((*names, *READERS))
    found["ground truth"] = sources.files((TRUTH, *READERS))
    found["synthetic data"] = sources.files((GENERATOR,))
    return found | {"metrics": sources.files((METRICS,))}


def undeclared(sources: code.Sources) -> dict[str, list[str]]:
    """Files that are not as declared -> whose results they compute; gone ones have none."""
    parts = _everything(sources)
    files = frozenset().union(*parts.values())
    found = {
        file: [name for name, own in parts.items() if file in own]
        for file in sorted(files)
        if sources.declared.get(file) != sources.read(file).meaning
    }
    return found | {file: [] for file in sources.declared if file not in files}


def declare(sources: code.Sources) -> Path:
    """Write the list of what computes, as it is now."""
    files = frozenset().union(*_everything(sources).values())
    path = sources.root / code.DECLARED
    lines = [f"{sources.read(file).meaning}  {file}\n" for file in sorted(files)]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def main(arguments: list[str]) -> int:
    sources = code.ours()
    if arguments not in ([], ["declare"]):
        print(__doc__, file=sys.stderr)
        return 2
    changed = undeclared(sources)
    for file, whose in changed.items():
        print(f"{file}: {', '.join(whose) or 'computes nothing any more'}")
    if arguments:
        print(f"declared in {declare(sources)}")
        return 0
    if changed:
        print(
            "Not as declared. If numbers change, raise the version of each that is named "
            "(CONTRIBUTING.md, How numbers stay stable); then, in either case: "
            "python -m harness.planning.codes declare"
        )
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
