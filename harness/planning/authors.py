"""Authors' files in place of a training: what a plan trains without, what does nothing with one."""

from __future__ import annotations

from typing import Any

from harness.planning.plan import Plan
from harness.planning.values import plain
from methods import published
from methods.marks import RANDOM_INIT
from methods.published import WeightFile


def not_given(plan: Plan) -> list[WeightFile]:
    """Published files in whose place the plan trains a stage.

    None of a demo's, whose networks are narrower. Rows that are about a stage have none.
    """
    found: set[WeightFile] = set()
    for cell in plan.cells if not plan.config.demo else ():
        stages = {plan.jobs[key].about.stage for key in plan.jobs[cell["key"]].needs}
        variants = plan.config.variants_of(cell["method"])
        own = {key for part in cell["variant"].split("+") for key in variants.get(part, ())}
        found |= {
            file
            for file in published.FILES
            if file.method == cell["method"]
            and file.stage in stages - {""}
            and file.cells in ("", cell["setting"])
            and file.key not in own
        }
    return [file for file in published.FILES if file in found]


def idle(method: str, settings: Any, name: str) -> WeightFile | None:
    """The file that is given in place of what a setting, dotted, trains; None: the setting counts.

    settings: of the method; whether there is a fusion at all is no setting of its training.
    """
    for file in published.FILES:
        given: Any = plain(settings) if file.method == method else {}
        for part in file.key.split("."):
            given = given.get(part) if isinstance(given, dict) else None
        trains = file.training and name.startswith(f"{file.training}.")
        if trains and given not in (None, RANDOM_INIT) and name not in (file.key, "uff.enabled"):
            return file
    return None


def told(file: WeightFile) -> str:
    """What is lost without a file, and how to give it."""
    lies = "lies there" if file.found else f"published: {file.source}"
    return (
        f"{file.setting} is not given: {file.without}. The authors' {file.file} ({lies}) is taken "
        f"from {published.FOLDER} by {file.setting}={published.PUBLISHED}"
    )
