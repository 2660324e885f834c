"""The connection to a Ray cluster: its address, its token, its messages, and the places for workers on its nodes."""

import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.grid.quiet import output_in
from fastcifar.show.console import note
from fastcifar.system import cures

PATIENCE = 5.0  # seconds that a cluster may take to answer
TOKEN_FILE = "~/.ray/auth_token"  # Ray's own default
MODE = "RAY_AUTH_MODE"

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray as ray
    from ray.exceptions import RayError as RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as NodeAffinitySchedulingStrategy
except ImportError as error:
    raise UsageError(f"--executor ray needs Ray ({error}): {cures.extra('ray')}") from error


@contextmanager
def connected(address: str | None, log: Path) -> Iterator[None]:
    """Connect to a cluster until the context ends, unless this process is connected already.

    address: as ray.init takes it. log: the file for what Ray prints meanwhile; a line on the terminal names it. Raises
    FastcifarError where no cluster answers, or where it does not accept this process's token.
    """
    with output_in(log), ExitStack() as opened:
        note(f"Ray's own messages go to {log}")
        if not ray.is_initialized():
            where = address or os.environ.get("RAY_ADDRESS") or "the usual address"
            try:
                opened.enter_context(_accepted(where))
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, RuntimeError, ValueError, RayError) as error:
                raise FastcifarError(
                    f"no Ray cluster answers at {where} ({reason(error)}); start one with: ray start --head"
                ) from error
            opened.callback(ray.shutdown)
        yield


@contextmanager
def _accepted(address: str) -> Iterator[None]:
    """Check that a cluster at HOST:PORT answers and accepts this process. Leave other addresses to ray.init.

    Ray gives its token to a cluster at an address only where RAY_AUTH_MODE is token. To a cluster on this machine it is
    given here until the context ends, where the cluster wants one and the user has not chosen. Raises OSError or
    RayError where no cluster answers, FastcifarError where it does not accept the token.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        yield
        return
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as probe:  # ray.init would wait for minutes
        is_here = _is_here(probe)
    if os.environ.get(MODE) == "token" and not _has_token():
        raise _refused(address)  # Ray's core would end the process
    if _accepts(address):
        yield
        return
    if not is_here or MODE in os.environ or not _has_token():
        raise _refused(address)
    os.environ[MODE] = "token"
    try:
        _read_mode()
        if not _accepts(address):
            raise _refused(address)
        yield
    finally:
        del os.environ[MODE]
        _read_mode()


def _accepts(address: str) -> bool:
    """Return whether a cluster accepts this process, with the token that it has or without one.

    ray.init tries for 20 seconds and does not say that the token was the reason. Raises RayError where none answers.
    """
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.exceptions import AuthenticationError
    except ImportError:  # a version of Ray without tokens
        return True
    try:
        GcsClient(address=address)
    except AuthenticationError:
        return False
    return True


def _read_mode() -> None:
    """Make Ray's core read RAY_AUTH_MODE again."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    Config.initialize("")


def _token_place() -> str:
    """Return where Ray looks for its token: the name of a variable, or a file."""
    return "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE


def _has_token() -> bool:
    place = _token_place()
    try:
        return bool(os.environ.get(place) or Path(place).expanduser().read_text().strip())
    except (OSError, RuntimeError, UnicodeDecodeError):  # RuntimeError: this user has no home
        return False


def _refused(address: str) -> FastcifarError:
    place = _token_place()
    if os.environ.get(MODE) != "token":
        what = f"the Ray cluster at {address} wants a token, and this command gave none"
    elif _has_token():
        what = f"the Ray cluster at {address} does not accept the token in {place}"
    else:
        what = f"{MODE} is token, and there is no token in {place} for the Ray cluster at {address}"
    return FastcifarError(
        f"{what}; copy the cluster's token ({TOKEN_FILE} on the machine of ray start) to {place} here, and run the "
        f"command with {MODE}=token"
    )


def _is_here(connection: socket.socket) -> bool:
    """Return whether the other end of a connection is on this machine."""
    here, there = connection.getsockname()[0], connection.getpeername()[0]
    return here == there or ipaddress.ip_address(there).is_loopback


def slots(cuda: bool) -> list[tuple[str, str, int]]:
    """Return the places for workers: name, id of the node, and number of the worker's CPU cores."""
    found = []
    for node in _nodes():
        if not node["Alive"]:
            continue
        cores, gpus = int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0))
        name = f"{node['NodeManagerAddress']}/{node['NodeID'][:6]}"
        if cuda:
            found += [(f"{name}:{n}", node["NodeID"], max(1, cores // gpus)) for n in range(gpus)]
        elif cores:
            found.append((name, node["NodeID"], cores))
    return found


def is_alive(node: str) -> bool:
    """Return whether a node of the cluster, by its id, is alive."""
    return any(info["Alive"] for info in _nodes() if info["NodeID"] == node)


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()
    return nodes


def reason(error: BaseException, cure: str = "") -> str:
    """Return the reason of an error in a line. Of an error on a worker, that is the message of that error.

    cure: it ends the line, unless the message is fastcifar's own, which has its cure.
    """
    cause = getattr(error, "cause", None)  # of an error in an actor's method
    if isinstance(cause, FastcifarError):
        return str(cause)
    if isinstance(cause, BaseException):
        return reason(cause, cure)
    lines = str(error).strip().splitlines() or [""]
    if getattr(error, "actor_init_failed", False):  # the message ends with the traceback of the actor's constructor
        kind, _, message = lines[-1].partition(": ")
        if kind.startswith(FastcifarError.__module__):
            return message
        return lines[-1] + cure
    if isinstance(error, RayError):
        lines = [line for line in lines if not line.startswith("\t")]  # the ids of a dead actor
        lines = lines[1:] or lines  # the first line says that the actor died, the second why, and goes on and on
        lines = [lines[0].partition(". ")[0]]
    return f"{type(error).__name__}{': ' if lines[0] else ''}{lines[0]}{cure}"
