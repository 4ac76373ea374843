"""Where the parity numbers come from.

PARITY_FIXTURES: a folder with one folder a method (default tests/fixtures); PARITY_SALT: the
salt its networks and inputs are filled with (default "open"). Lists of state-dict keys always
come from tests/fixtures.
"""

import importlib.util
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

_cache = tempfile.TemporaryDirectory(prefix="relief-cache-")
os.environ.setdefault("RELIEF_CACHE", _cache.name)
# Ray reads it when it is imported, which some tests do before the engine says so: else it makes an
# environment for its workers of the folder that `uv run` was called in
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
HERE = Path(__file__).parent / "fixtures"
_spec = importlib.util.spec_from_file_location("fill", HERE / "fill.py")
_fill = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fill)


class Parity:
    """Recorded numbers and fillings of one fixtures folder, e.g. parity("das3d")."""

    def __init__(self, method: str):
        self.folder = Path(os.environ.get("PARITY_FIXTURES", HERE)) / method
        self.salt = os.environ.get("PARITY_SALT", "open")
        self._own = HERE / method

    def npz(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as file:
            return dict(file)

    def json(self, name: str):
        return json.loads((self.folder / f"{name}.json").read_text())

    def state_dict_list(self, name: str):
        return json.loads((self._own / f"{name}.state_dict.json").read_text())

    def input(self, name: str, shape, kind: str = "normal") -> np.ndarray:
        return _fill.fill_input(name, tuple(shape), self.salt, kind)

    def parameter(self, name: str, shape) -> np.ndarray:
        return _fill.fill_parameter(name, tuple(shape), self.salt)

    def fill(self, module) -> None:
        """Fill every entry of a module's state dict in place, by its key."""
        import torch

        module.load_state_dict(
            {
                k: torch.from_numpy(self.parameter(k, v.shape))
                for k, v in module.state_dict().items()
            }
        )


@pytest.fixture(scope="session")
def parity():
    return Parity
