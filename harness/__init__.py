"""Relief's harness. From Python: `run`, `open_store`, `fit` and `harness.metrics`."""

import importlib

_API = ("run", "open_store", "fit", "Results", "Fitted")


def __getattr__(name: str):
    """The names of harness/api.py, loaded when they are first used."""
    if name in _API:
        return getattr(importlib.import_module("harness.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
