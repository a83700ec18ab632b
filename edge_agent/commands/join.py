"""`edge-agent join | renew | leave`: who this gateway is."""

from __future__ import annotations

import codecs
import errno
import os
import re
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent import exits
from edge_agent.commands.options import file_option
from edge_agent.errors import AgentError, ConfigInvalid, JoinRefused, NotJoined, StateUnusable

if TYPE_CHECKING:
    from edge_agent.config.model import Config
    from edge_agent.enrol.identity import Identity
    from wire.join import JoinToken

TOKEN_FILE_BYTES_MAX = 4096
DEFAULT_WAIT_S = 3600.0


@click.command()
@click.argument("token", required=False)
@click.option(
    "--file",
    "token_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read the token from this file; erased once the gateway has joined. A command line is seen by all users.",
)
@click.option("--cloud", default="", metavar="HOST[:PORT]", help="Instead of the address in the token.")
@click.option("--name", default="", help="Gateway id to ask for.  [default: the host name]")
@click.option("--server-name", default="", help="The name in the cloud's certificate, where it is not the host.")
@click.option(
    "--wait", default=DEFAULT_WAIT_S, show_default=True, type=click.FloatRange(0), help="Seconds for approval."
)
@file_option
def join(
    token: str | None, token_file: Path | None, cloud: str, name: str, server_name: str, wait: float, file: Path
) -> None:
    """Become a gateway of a cloud, with a TOKEN that `cloud-sync token create` printed. `-` reads it from stdin.

    Exit 0 joined, 1 refused, 75 nobody answers: try again, 78 another cloud or a wrong configuration.
    """
    from edge_agent.enrol.files import erase
    from edge_agent.enrol.join import Wish
    from edge_agent.enrol.join import join as join_cloud
    from wire.clock import SystemClock

    try:
        state_dir = _state_dir(file)
        wish = Wish(_token(token, token_file), name or _own_name(), cloud, server_name, wait)
        identity = join_cloud(state_dir, wish, lambda assigned: _problems(file, assigned), SystemClock(), _say)
        if token_file is not None:
            erase(token_file)
    except AgentError as error:
        raise SystemExit(exits.fail(error)) from error
    labels = "".join(f" {key}={value}" for key, value in identity.facts.labels.items())
    print(f"joined {identity.facts.host} as gateway {identity.facts.gateway}{labels}")
    _say("next: sudo systemctl restart edge-agent; then: edge-agent status")


@click.command()
@file_option
def renew(file: Path) -> None:
    """Get a new certificate now. The running agent does this by itself, at two thirds of its life and after its end."""
    from edge_agent.enrol.renew import renew as renew_identity
    from wire.join import split_address

    try:
        config, identity = _config(file), _identity(_state_dir(file))
        url = config.cloud.address if config is not None and config.cloud is not None else ""
        host, port = split_address(url or identity.url.removeprefix("https://"), identity.facts.sync_port)
        fresh = renew_identity(identity, host, port)
    except AgentError as error:
        raise SystemExit(exits.fail(error)) from error
    days = (fresh.facts.valid_until_s - fresh.facts.valid_from_s) / 86_400
    print(f"gateway {fresh.facts.gateway} has a new certificate for {days:.0f} days")


@click.command()
@click.option("--force", is_flag=True, help="Also when the cloud cannot be told; revoke the gateway there.")
@file_option
def leave(force: bool, file: Path) -> None:
    """Give this gateway's identity back and erase its key. Readings that wait stay here."""
    from edge_agent.enrol.identity import BEGUN, FOLDER
    from edge_agent.enrol.join import forget
    from edge_agent.enrol.join import leave as leave_cloud

    try:
        state_dir = _state_dir(file)
        try:
            identity = _identity(state_dir)
        except StateUnusable:
            if not force:
                raise
            forget(state_dir / FOLDER)
            print("the damaged identity is erased")
            return
        leave_cloud(identity, _say, force=force)
        forget(state_dir / BEGUN)
    except AgentError as error:
        raise SystemExit(exits.fail(error)) from error
    print(f"gateway {identity.facts.gateway} has left {identity.facts.host}")
    _say("next: sudo systemctl restart edge-agent; readings that wait here are kept")


def _say(text: str) -> None:
    print(f"edge-agent: {text}", file=sys.stderr, flush=True)


def _token(said: str | None, file: Path | None) -> JoinToken:
    from wire.join import JoinToken, TokenMalformed

    if (said is None) == (file is None):
        raise JoinRefused("give the token either as an argument or with --file FILE. Try: edge-agent join TOKEN")
    if file is not None:
        text = _token_text(file)
    else:
        text = sys.stdin.readline(TOKEN_FILE_BYTES_MAX) if said == "-" else str(said)
    try:
        return JoinToken.parse(text)
    except TokenMalformed as error:
        raise JoinRefused(str(error)) from error


def _token_text(file: Path) -> str:
    """As editors of any system leave it. Neither a link nor a pipe is followed: the file is erased at the end."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise JoinRefused(f"{file} is no file. Try: a file that holds the token's line, or - for stdin")
            data = stream.read(TOKEN_FILE_BYTES_MAX)
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Windows, PowerShell
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except OSError as error:
        help_ = "the file itself, not a link to it" if error.errno == errno.ELOOP else "sudo"
        raise JoinRefused(f"{file} cannot be read: {error.strerror}. Try: {help_}") from error
    except ValueError as error:
        raise JoinRefused(f"{file} is no text. Try: a file that holds the token's line and nothing else") from error


def _own_name() -> str:
    """The host name, as a gateway id can be."""
    return re.sub(r"[^a-z0-9]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")[:63] or "gateway"


def _config(file: Path) -> Config | None:
    from edge_agent.config.load import load

    return load(file) if file.exists() else None


def _state_dir(file: Path) -> Path:
    """Of the configuration; the usual one where there is no file yet."""
    from edge_agent.config.model import AgentSection

    config = _config(file)
    return config.state_dir if config is not None else Path(AgentSection().state_dir)


def _problems(file: Path, assigned: Path) -> list[str]:
    from edge_agent.config.load import load

    if not file.exists():
        return []
    try:
        load(file, assigned=assigned)
    except ConfigInvalid as error:
        return error.problems
    return []


def _identity(state_dir: Path) -> Identity:
    from edge_agent.enrol.identity import identity_of

    identity = identity_of(state_dir)
    if identity is None:
        raise NotJoined(f"no identity in {state_dir}, or not for this user. Try: sudo, or edge-agent join TOKEN")
    return identity
