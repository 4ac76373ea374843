import pytest
import torch

from tests.device import fake
from tests.methods.tiny import SAMPLES


@pytest.fixture(scope="session")
def device() -> torch.device:
    torch.set_num_threads(1)  # a device's backward pass has a thread of its own, with as many
    try:
        return fake.load()
    except fake.NoCompilerError as error:
        pytest.skip(f"the fake accelerator cannot be built: {error}")


@pytest.fixture(scope="session")
def samples():
    return {name: make() for name, make in SAMPLES.items()}


def pytest_addoption(parser):
    parser.addoption("--counts", help="add the counts of cells to this file, and compare none")
