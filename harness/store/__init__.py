"""The store: what jobs left on disk, and how it is written and read."""

from harness.store.files import canonical, key_of, write_json, write_text
from harness.store.records import (
    COMMON,
    DAMAGED,
    DONE,
    FAILED,
    IDENTITY,
    OUT_OF_MEMORY,
    PAPER,
    PROTOCOLS,
    SCHEMA,
    SKIPPED,
    TIMEOUT,
    DamagedError,
    Record,
    RecordError,
    title_of,
)
from harness.store.specs import Needs, Spec
from harness.store.store import Results, Store, sole
from methods.errors import UserError
from methods.files import PART

__all__ = [
    "COMMON",
    "DAMAGED",
    "DONE",
    "FAILED",
    "IDENTITY",
    "OUT_OF_MEMORY",
    "PAPER",
    "PART",
    "PROTOCOLS",
    "SCHEMA",
    "SKIPPED",
    "TIMEOUT",
    "DamagedError",
    "Needs",
    "Record",
    "RecordError",
    "Results",
    "Spec",
    "Store",
    "UserError",
    "canonical",
    "key_of",
    "sole",
    "title_of",
    "write_json",
    "write_text",
]
