"""Whether a Ray cluster can be joined, said in seconds and in a line.

Ray itself tries for minutes to reach an address where nothing listens, and speaks in many lines.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from importlib import metadata

from methods.errors import UserError

SOCKET_S, PROBE_S = 5.0, 30.0  # how long an address may take to answer; a client of it

PROBE = """
import json, os, sys
from ray._raylet import AuthenticationTokenLoader, GcsClient
from ray.exceptions import AuthenticationError
try:
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":  # without one, Ray aborts
        if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
            raise AuthenticationError("no token")
    client = GcsClient(address=sys.argv[1])
    print(json.dumps(json.loads(client.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))))
except AuthenticationError:
    print(json.dumps({"refused": True}))
"""

FIND = """
import ray._private.services as services

from methods.errors import UserError
print(services.canonicalize_bootstrap_address_or_die("auto"))
"""


class ClusterError(UserError):
    """A cluster that cannot be joined; the message says why and what to do."""


def reach(address: str) -> str:
    """The address of a cluster that can be joined, HOST:PORT. Raises ClusterError.

    address: HOST:PORT, or "auto" for the one that runs on this machine. Sets RAY_AUTH_MODE where
    the cluster asks for a token and this machine has the right one. Call before Ray is imported.
    """
    address = _here() if address == "auto" else address
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address} is an address for Ray's client: give that of the cluster itself, as "
            "HOST:PORT (6379 unless `ray start` was given another)"
        )
    _knock(address)
    known = _ask(address, {})
    if "refused" in known and "RAY_AUTH_MODE" not in os.environ:
        known = _ask(address, {"RAY_AUTH_MODE": "token"})
        if "refused" not in known:
            os.environ["RAY_AUTH_MODE"] = "token"
    if "refused" in known:
        raise ClusterError(
            f"the Ray cluster at {address} asks for a token that this machine does not have: copy "
            "~/.ray/auth_token from its head node, or set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
            "(`ray get-auth-token` there prints it)"
        )
    for what, here in {"ray": metadata.version("ray"), "python": platform.python_version()}.items():
        there = known.get(f"{what}_version")
        if there != here:
            raise ClusterError(
                f"the Ray cluster at {address} has {what.title()} {there}, this machine {here}: "
                "install the same on every node"
            )
    return address


def _here() -> str:
    """Of the cluster on this machine, as `ray start` noted it."""
    if named := os.environ.get("RAY_ADDRESS"):
        return named
    done = _run(FIND)
    found = (done or "").strip().splitlines()
    if not found or ":" not in found[-1]:
        raise ClusterError(
            "no Ray cluster runs on this machine: start one with `ray start --head`, give "
            "--address HOST:PORT, or leave --address out for a Ray of its own"
        )
    return found[-1]


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"{address!r} is no address: give HOST:PORT, e.g. head:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SOCKET_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"nothing answers at {address} ({error}): see that the head node runs "
            "(`ray start --head` prints its address) and that no firewall is between"
        ) from error


def _ask(address: str, environment: dict[str, str]) -> dict:
    """What the cluster says of itself, or {"refused": True}. In a process, as Ray may wait long."""
    try:
        return json.loads((_run(PROBE, address, environment) or "").splitlines()[-1])
    except (IndexError, ValueError):
        raise ClusterError(
            f"what listens at {address} does not answer as a Ray cluster within {PROBE_S:g} s: "
            "give the address that `ray start --head` printed"
        ) from None


def _run(code: str, argument: str = "", environment: dict[str, str] | None = None) -> str | None:
    """What a Python program prints; None if it takes too long."""
    try:
        return subprocess.run(
            [sys.executable, "-P", "-c", code, argument],
            env=os.environ | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=PROBE_S,
        ).stdout
    except subprocess.TimeoutExpired:
        return None
