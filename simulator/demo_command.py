"""`edge-sim demo`: the demonstration with its folder, its screen and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from simulator import transport
from simulator.demo import Demo, plans
from simulator.i2c_seccomp import TransportRefused
from simulator.lab.mqtt_sensors import MqttSensors
from simulator.lab.processes import LabFailed
from simulator.lab.site import Site
from simulator.screen import Screen


@dataclass(frozen=True, slots=True)
class Options:
    """What `edge-sim demo` was told."""

    stay: bool  # keep everything up after the summary
    json_file: Path | None
    seed: int
    transport: str
    keep: Path | None


def run_demo(options: Options) -> int:
    """Run, show, write. Returns the exit code: 0 only if all holds, 130 after Ctrl-C before that."""
    kept = options.keep
    if options.json_file is not None and not os.access(options.json_file.absolute().parent, os.W_OK):
        print(f"edge-sim: --json {options.json_file}: its folder is missing or cannot be written", file=sys.stderr)
        return 1
    try:
        folder = _new_folder(kept)
    except OSError as error:
        why = "is there already" if isinstance(error, FileExistsError) else f"cannot be made: {error.strerror}"
        print(f"edge-sim: {error.filename} {why}. Try: another --keep DIR, which is made anew", file=sys.stderr)
        return 1
    try:
        return asyncio.run(_run(folder, options))
    except (LabFailed, TransportRefused) as error:
        print(f"edge-sim: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    finally:
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


def _new_folder(kept: Path | None) -> Path:
    """Where everything of this run stands. Raises OSError."""
    if kept is None:
        return Path(tempfile.mkdtemp(prefix="tidegate-demo-"))
    kept = kept.resolve()
    kept.mkdir(parents=True)
    return kept


async def _run(folder: Path, options: Options) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    name, reason = await asyncio.to_thread(transport.choose, options.transport)
    with Screen() as screen:
        screen.say(f"simulated I2C by {name}{f' ({reason})' if reason else ''}", 0.0)
        site = Site(folder, plans(folder, name), options.seed)
        for gateway in site.gateways:
            if isinstance(gateway.sensors, MqttSensors):
                screen.say(f"MQTT broker: {gateway.sensors.broker}", 0.0)
        demo = Demo(site, screen)
        try:
            result = await demo.run()
            url = await asyncio.to_thread(site.cloud.login_link) if options.stay else ""
            screen.summary(result, url)
            if options.json_file is not None:
                text = json.dumps(result.document(), indent=2) + "\n"
                await asyncio.to_thread(options.json_file.write_text, text, encoding="utf-8")
            if options.stay:
                screen.begin_table()
                with contextlib.suppress(asyncio.CancelledError):
                    await demo.stay()
            return 0 if result.holds else 1
        finally:
            await site.close()
