import zipfile
from pathlib import Path

import pytest

from harness.engine.driver import Driver
from harness.engine.executors import InProcess
from harness.planning import config
from harness.planning.expand import build
from harness.planning.plan import Plan
from harness.store import Store

TINY = Path(__file__).with_name("tiny.yaml")


def planned(*overrides: str, data: Path | None = None, background: str | None = None) -> Plan:
    return build(config.load(str(TINY), list(overrides), data and str(data), background))


def run(plan: Plan, store: Store):
    """A plan's pending jobs in this process; -> schedule.Summary."""
    return Driver(plan, store, InProcess(), plan.config.schedule).run()


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory) -> Store:
    """A store in which the tiny launch is done. Tests must not change it."""
    store, plan = Store(tmp_path_factory.mktemp("tiny")), planned()
    plan.record(store)
    assert not run(plan, store).failures
    return store


def checkpoint(path):
    """A file that looks like weights, each one another; nothing is in it."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", path.name)
