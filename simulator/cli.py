"""`edge-sim`: simulated sensors, broken networks, and the demonstration. Commands are thin; work is in the modules."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=CONTEXT)
def main() -> None:
    """Hardware-in-the-loop simulator: sensors, buses and networks that fail on demand."""


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(f"edge-sim {installed_version('tidegate')}")


@main.command()
@click.option("--headless", is_flag=True, help="End after the summary, also on a terminal.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the summary to FILE.", metavar="FILE")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the simulated weather and noise.")
@click.option(
    "--transport",
    "wanted",
    type=click.Choice(["auto", "seccomp", "umockdev", "unix"]),
    default="auto",
    show_default=True,
    help="How the agents reach the simulated buses: see edge-sim bus.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Work in DIR, which is made, and leave it."
)
def demo(*, headless: bool, json_file: Path | None, seed: int, wanted: str, keep: Path | None) -> None:
    """Run a cloud and five gateways, break everything, and count.

    Readings arrive, a pump's bearing breaks and a model tells of it, the network is cut for 10 s and comes back, an
    agent is killed (SIGKILL) and restarted, the cloud is killed under load and restarted. Then two independent counts
    are compared: what the simulated sensors gave out, and what the cloud's query API returns. Exit code 0 only if
    nothing is lost, nothing is doubled, and the alarms are as they must be: the bearing's, and none before it.
    """
    from simulator.demo_command import Options, run_demo

    stay = not headless and sys.stdout.isatty()
    sys.exit(run_demo(Options(stay, json_file, seed, wanted, keep)))


@main.command()
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="How many, each with a seed.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the first trial.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the counts to FILE.", metavar="FILE")
@click.option("--workers", type=click.IntRange(1), help="Trials at a time. Default: one per core; real: two per core.")
@click.option(
    "--agent",
    type=click.Choice(["tidegate", "thingsboard", "mosquitto"]),
    default="tidegate",
    show_default=True,
    help="Whom it happens to; other agents run as real processes.",
)
@click.option("--real", is_flag=True, help="Real processes, sockets and cards instead of virtual time.")
@click.option(
    "--plant",
    type=click.Choice(["ack-before-commit", "delete-on-send"]),
    help="Plant a mistake, to see that the lab finds it.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Leave each trial's files there, in a new folder."
)
def lab(
    *,
    trials: int,
    seed: int,
    json_file: Path | None,
    workers: int | None,
    agent: str,
    real: bool,
    plant: str | None,
    keep: Path | None,
) -> None:
    """Break everything at random, many times over, and count what is lost and what is doubled.

    Each trial draws faults at random times from its seed: kills, cuts, stalls, full and failing disks, power cuts,
    damaged files, wrong clocks, stores that fail. Then everything is left alone for a while, and the values that the
    sensors gave out are compared with those that are stored. The same seed gives the same trial. Exit code 0 only if
    nothing is lost and nothing is doubled.
    """
    import os

    from simulator.lab.command import run_lab
    from simulator.lab.outcome import Plant
    from simulator.lab.trials import Agent, Order

    is_real = real or agent != "tidegate"
    if is_real and plant is not None:
        raise click.UsageError("--plant works in virtual time, with our own agent: leave --real and --agent out")
    cores = os.cpu_count() or 1
    order = Order(
        trials=trials,
        seed=seed,
        workers=min(trials, workers or (2 * cores if is_real else cores)),
        agent=Agent(agent),
        real=real,
        plant=None if plant is None else Plant(plant),
        keep=keep,
    )
    sys.exit(run_lab(order, json_file))


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--i2c",
    "parts",
    multiple=True,
    metavar="BUS=CHIP@ADDRESS[,...]",
    help="Parts of one bus, as in 1=bme280@0x76,bme280@0x77. Once per bus.",
)
@click.option(
    "--serial",
    "ports",
    multiple=True,
    metavar="LINK=PART[@FRAMING]",
    help="A part on a tty, as edge-sim serial; with a framing, as in pump@8E1, it understands nothing else.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the weather, the noise and the trimming.")
@click.option(
    "--transport",
    "wanted",
    type=click.Choice(["auto", "seccomp", "umockdev", "unix"]),
    default="auto",
    show_default=True,
    help="How COMMAND reaches the buses: a virtual /dev/i2c-N, or sockets (bus = unix:PATH).",
)
@click.option(
    "--log",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Append a JSON line for each conversion that a part hands out. No two of a part are equal then.",
)
@click.option(
    "--socket-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Where sockets stand if they are needed: bus N is unix:DIR/i2c-N. Default: a temporary folder.",
)
@click.option(
    "--control", type=click.Path(path_type=Path), metavar="SOCKET", help="Take commands there: see edge-sim ctl."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="BUS/ADDRESS=FAULT@START-END",
    help="Break a part for some seconds, as in 1/0x76=nak@10-20; without END for good. "
    "Faults: nak, hang, wrong-id, stuck, skipped, garbled.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def bus(
    *,
    parts: tuple[str, ...],
    ports: tuple[str, ...],
    seed: int,
    wanted: str,
    log: Path | None,
    socket_dir: Path | None,
    control: Path | None,
    faults: tuple[str, ...],
    command: tuple[str, ...],
) -> None:
    """Run COMMAND with simulated I2C buses and serial lines.

    COMMAND and all it starts see /dev/i2c-N as on a real gateway; it needs no change, no root and no kernel module.
    Signals are passed on; the exit code is COMMAND's. Without COMMAND the buses are served on sockets until Ctrl-C.

    Example: edge-sim bus --i2c 1=bme280@0x76 -- edge-agent run -c edge-agent.toml
    """
    from simulator import transport
    from simulator.bench import Bench
    from simulator.i2c_seccomp import TransportRefused
    from simulator.parts import SpecInvalid, parse_fault, parse_parts
    from simulator.serial.serve import parse_port
    from wire.clock import SystemClock

    if not parts and not ports:
        raise click.UsageError("nothing to simulate: give --i2c, --serial or both.")
    try:
        described = [part for text in parts for part in parse_parts(text)]
        lines = [parse_port(text) for text in ports]
        planned = [parse_fault(text) for text in faults]
        name, reason = transport.choose(wanted if command else "unix")
        table = Bench(described, SystemClock(), seed, name, log=log, socket_dir=socket_dir, faults=planned, ports=lines)
    except (SpecInvalid, TransportRefused, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or log}: {error.strerror}") from error
    for line in lines:
        click.echo(f"{line.link}: {line.part}{f' at {line.framing}' if line.framing else ''}", err=True)
    for number in sorted({part.bus for part in described}):
        click.echo(f"i2c-{number}: {table.device(number)} by {name}{f' ({reason})' if reason else ''}", err=True)
    if control is not None:
        table.listen(control)
    try:
        sys.exit(table.run(command))
    except TransportRefused as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("socket", type=click.Path(path_type=Path))
@click.argument("do", type=click.Choice(["status", "fault", "kill", "start", "stop"]), metavar="DO")
@click.option("--part", metavar="BUS/ADDRESS", help="With fault: which part, as in 1/0x76.")
@click.option("--fault", help="With fault: none, nak, hang, wrong-id, stuck, skipped or garbled.")
def ctl(socket: Path, do: str, part: str | None, fault: str | None) -> None:
    """Tell a running `edge-sim bus --control SOCKET` what to do.

    status: what runs, as JSON. fault: break a part, or mend it (--fault none). kill: SIGKILL the command, the parts
    live on. start: run it again. stop: end everything.
    """
    import json

    from simulator import control
    from simulator.parts import SpecInvalid, parse_fault

    arguments: dict[str, Any] = {}
    if do == "fault":
        try:
            if not part or not fault:
                raise SpecInvalid("fault needs --part and --fault")
            planned = parse_fault(f"{part}={fault}@0-")
        except SpecInvalid as error:
            raise click.ClickException(str(error)) from error
        arguments = {"bus": planned.bus, "address": planned.address, "fault": fault}
    try:
        click.echo(json.dumps(control.ask(socket, do, **arguments), indent=2))
    except control.Refusal as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{socket}: {error.strerror}. Does edge-sim bus --control run there?") from error


@main.command()
@click.argument("ports", nargs=-1, required=True, metavar="LINK=PART...")
@click.option("--unplug", metavar="START-END", help="Pull all of them for some seconds, as in 10-20.")
def serial(ports: tuple[str, ...], unplug: str | None) -> None:
    """Serve simulated parts on pseudo-terminals until Ctrl-C; LINK is the path to open as a tty.

    Parts: pump (Modbus RTU, unit 1), gps (NMEA 0183), pms5003 (fine dust), or gps:FILE to replay a recorded log.

    Example: edge-sim serial /tmp/rs485=pump /tmp/gps=gps
    """
    from simulator.serial import serve

    try:
        serve.serve([serve.parse_port(text) for text in ports], serve.parse_span(unplug), click.echo)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


@main.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option("--interval", default=1.0, show_default=True, metavar="SECONDS", help="Between two messages of a topic.")
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Note what the broker has taken over.")
def mqtt(topics: tuple[str, ...], interval: float, log: Path | None) -> None:
    """Run an MQTT broker on a free port and publish to it until Ctrl-C; prints what to write into a configuration.

    It is mosquitto where that is installed, else a broker in pure Python, without MQTT 5.

    Example: edge-sim mqtt plant/boiler/state
    """
    from simulator.lab.processes import LabFailed
    from simulator.mqtt_bench import serve

    try:
        serve(topics, interval, log, click.echo)
    except LabFailed as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("target")
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT", help="Where clients connect; 0: any."
)
@click.option("--delay", default=0.0, show_default=True, metavar="SECONDS", help="Added to each direction.")
@click.option(
    "--plan",
    "plans",
    multiple=True,
    metavar="MODE@START-END",
    help="Break the network for some seconds, as in cut@10-20. "
    "cut: connections are reset. stall: nothing is read any more. mute: all is read, nothing arrives. "
    "unanswered: the same, but only for what TARGET says.",
)
def proxy(target: str, listen: str, delay: float, plans: tuple[str, ...]) -> None:
    """Stand between a client and TARGET (HOST:PORT) as a network that breaks by plan, and count bytes both ways."""
    import asyncio

    from simulator import network

    try:
        steps = [network.parse_plan(text) for text in plans]
        near, far = network.parse_address(listen), network.parse_address(target)
        asyncio.run(network.serve(near, far, delay, steps, click.echo))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot listen on {listen}: {error.strerror}") from error
    except KeyboardInterrupt:
        return
