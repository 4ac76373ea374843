"""MLflow as a view of the store; files are the truth."""

from harness.tracking.client import ENVIRONMENT, Synced
from harness.tracking.database import TrackingError
from harness.tracking.launches import sync
from harness.tracking.mirror import Kind, Mirror, run_mirror
from harness.tracking.server import address, addresses, check_port, server_command
from harness.tracking.sweeps import sync_sweep

__all__ = [
    "ENVIRONMENT",
    "Kind",
    "Mirror",
    "Synced",
    "TrackingError",
    "address",
    "addresses",
    "check_port",
    "run_mirror",
    "server_command",
    "sync",
    "sync_sweep",
]
