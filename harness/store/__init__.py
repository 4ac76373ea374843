"""The store: what finished jobs left on disk, and how it is written and read."""

from harness.store.files import canonical, key_of, write_json, write_text
from harness.store.records import IDENTITY
from harness.store.store import DONE, FAILED, OUT_OF_MEMORY, SKIPPED, TIMEOUT, Store

__all__ = [
    "DONE",
    "FAILED",
    "IDENTITY",
    "OUT_OF_MEMORY",
    "SKIPPED",
    "TIMEOUT",
    "Store",
    "canonical",
    "key_of",
    "write_json",
    "write_text",
]
