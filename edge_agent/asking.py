"""Asking the running agent over its control socket (`edge_agent.control` is the other side). Imports little: what only
asks must start fast, on the smallest gateway too.
"""

from __future__ import annotations

import json
import socket
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent.errors import NotRunning

SOCKET_NAME = "control.sock"
ANSWER_S_MAX = 5.0
RUNTIME_DIR = "/run/edge-agent"
FILE_BYTES_MAX = 4 << 20


class RequestRefused(Exception):
    """The request cannot be answered; the text tells the client why."""


def ask(runtime_dir: Path, request: Mapping[str, object]) -> Any:
    """One request to the running agent. Raises NotRunning, RequestRefused."""
    path = runtime_dir / SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S_MAX)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as file:
                line = file.readline()
        except PermissionError as error:
            raise RequestRefused(f"{path}: not allowed. Try: sudo edge-agent …, or join the socket's group") from error
        except OSError as error:
            raise NotRunning(
                f"no agent answers at {path}: {error.strerror or error}. Start one: edge-agent run"
            ) from error
    try:
        answer = json.loads(line)
        ok, body = bool(answer["ok"]), answer.get("result", answer.get("error"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotRunning(f"{path}: what answers there is no edge-agent") from error
    if not ok:
        raise RequestRefused(str(body))
    return body


def ask_agent(file: Path, request: Mapping[str, object]) -> Any:
    """One request to the agent that runs with this configuration, which is checked only when none answers.

    Raises NotRunning, RequestRefused; ConfigInvalid when none answers and the configuration is the likely reason.
    """
    found = runtime_dir_of(file.absolute())
    if found is not None:
        with suppress(NotRunning):
            return ask(found, request)
    from edge_agent.config.load import load

    return ask(load(file).runtime_dir, request)


def runtime_dir_of(file: Path) -> Path | None:
    """[agent] runtime_dir, by the files alone; None where they are no configuration: `load` says why."""
    said: list[tuple[Path, object]] = []
    for path in files_of(file):
        try:
            with path.open("rb") as opened:
                values = tomllib.loads(opened.read(FILE_BYTES_MAX).decode())
        except (OSError, ValueError):
            return None
        agent = values.get("agent")
        if isinstance(agent, dict) and "runtime_dir" in agent:
            said.append((path.parent, agent["runtime_dir"]))
    if not said:
        return Path(RUNTIME_DIR)
    ((folder, told), *others) = said
    return folder / told if isinstance(told, str) and not others else None


def files_of(file: Path) -> list[Path]:
    """A configuration's main file and its conf.d, by name."""
    return [file, *sorted((file.parent / "conf.d").glob("*.toml"))]
