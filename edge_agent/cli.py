"""`edge-agent`: the command line. Data on stdout, messages on stderr; exit codes in docs/operating/agent.md."""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.commands.lazy import LazyGroup
from edge_agent.commands.options import file_option, json_option

ELSEWHERE = {
    "buffer": "edge_agent.commands.buffer:buffer",
    "doctor": "edge_agent.commands.doctor:doctor",
    "join": "edge_agent.commands.join:join",
    "leave": "edge_agent.commands.join:leave",
    "model": "edge_agent.commands.model:model",
    "renew": "edge_agent.commands.join:renew",
    "sync": "edge_agent.commands.sync:sync",
}


@click.group(cls=LazyGroup, elsewhere=ELSEWHERE, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Reads sensors, keeps every reading, and brings each to the cloud exactly once."""


@main.command()
@file_option
def run(file: Path) -> None:
    """Run in the foreground until SIGTERM or SIGINT."""
    from edge_agent.commands.run import run_agent

    raise SystemExit(run_agent(file))


@main.command()
@file_option
@json_option
def status(file: Path, as_json: bool) -> None:
    """Show sensors, buffer and sync of the running agent. Exit 0 healthy, 1 not, 3 not running."""
    from edge_agent.commands.status import show_status

    raise SystemExit(show_status(file, as_json))


@main.command()
@click.argument("sensor", required=False)
@click.option("--once", is_flag=True, help="Where no agent runs: open the bus here and read one time.")
@file_option
@json_option
def read(sensor: str | None, once: bool, file: Path, as_json: bool) -> None:
    """Print the latest value of every channel, or of one SENSOR."""
    from edge_agent.commands.read import read_sensors

    raise SystemExit(read_sensors(file, sensor, once, as_json))


@main.group()
def config() -> None:
    """Check, show or begin a configuration."""


@config.command("check")
@file_option
def config_check(file: Path) -> None:
    """Report every mistake with its line. Exit 0 good, 78 not."""
    from edge_agent.commands.config import check

    raise SystemExit(check(file))


@config.command("init")
@click.argument("target", required=False, type=click.Path(path_type=Path, dir_okay=False))
def config_init(target: Path | None) -> None:
    """Print a commented example, or write it to TARGET, which must not exist."""
    from edge_agent.commands.config import init

    raise SystemExit(init(target))


@config.command("show")
@file_option
@json_option
def config_show(file: Path, as_json: bool) -> None:
    """Print the configuration as the agent understands it, defaults filled in."""
    from edge_agent.commands.config import show

    raise SystemExit(show(file, as_json))


@main.group()
def driver() -> None:
    """Drivers of sensors."""


@driver.command("list")
@json_option
def driver_list(as_json: bool) -> None:
    """List the installed drivers with their options and channels."""
    from edge_agent.commands.driver import list_drivers

    raise SystemExit(list_drivers(as_json))


@main.command()
@click.option("--bus", "buses", multiple=True, metavar="BUS", help="Only this one: i2c-1 or /dev/i2c-1. Repeatable.")
@file_option
@json_option
def detect(buses: tuple[str, ...], file: Path, as_json: bool) -> None:
    """Find known parts on I2C buses by their id, and print the configuration to add. Only reads."""
    from edge_agent.commands.detect import detect as find

    raise SystemExit(find(buses, file, as_json))


@main.command()
def version() -> None:
    """Print the version."""
    from edge_agent.version import VERSION

    click.echo(VERSION)


if __name__ == "__main__":
    main(prog_name="edge-agent")
