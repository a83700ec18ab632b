"""`edge-sim bus` with a real program and real smbus2 calls, by each transport that this machine allows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator import i2c_seccomp, i2c_umockdev, parts
from simulator.control import Refusal, ask

SIM = [sys.executable, "-c", "from simulator.cli import main; main()"]
READER = """
import sys, time
from hardware.buses import open_i2c
from hardware.drivers.bme280 import BME280, BME280Config
from hardware.errors import DeviceError
bus = open_i2c(sys.argv[1])
def read(address=0x76):
    device = BME280(BME280Config(address=address), bus)
    device.open()
    time.sleep(device.trigger())
    return list(device.read())
"""
REASONS = {"seccomp": i2c_seccomp.probe(), "umockdev": i2c_umockdev.probe(), "unix": ""}
TRANSPORTS = [
    pytest.param(name, marks=pytest.mark.skipif(bool(reason), reason=reason)) for name, reason in REASONS.items()
]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])


def sim(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SIM, *arguments], capture_output=True, text=True, timeout=30, check=False)


def program(code: str) -> str:
    return READER + code


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("transport", ["seccomp", "umockdev"])
def test_an_unmodified_program_reads_the_parts(transport: str, tmp_path: Path) -> None:
    if REASONS[transport]:
        pytest.skip(REASONS[transport])
    log = tmp_path / "given"
    code = program("print([read(), read(0x77)])\nbus.close()\nbus = open_i2c('/dev/i2c-3')\nprint(read())")
    options = ["--i2c", "1=bme280@0x76,bme280@0x77", "--i2c", "3=bme280@0x76", "--transport", transport]
    done = sim("bus", *options, "--log", str(log), "--", sys.executable, "-c", code, "/dev/i2c-1")
    assert done.returncode == 0, done.stderr
    pair, single = done.stdout.splitlines()
    given = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["part"] for line in given] == ["i2c-1/0x76", "i2c-1/0x77", "i2c-3/0x76"]
    assert [line["raw"] for line in given] == [*json.loads(pair), json.loads(single)]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_faults_reach_the_program_as_on_a_real_bus(transport: str, tmp_path: Path) -> None:
    code = program("""
for address in (0x40, 0x76):
    started = time.monotonic()
    try:
        bus.read(address, 0xD0, 1)
    except DeviceError as error:
        print(type(error).__name__, 0.2 < time.monotonic() - started < 1.9)
""")
    faults = ["--fault", "1/0x76=hang@0-"]
    command = [sys.executable, "-c", code]
    if transport == "unix":
        (tmp_path / "read.py").write_text(code)
        with served(tmp_path, *faults) as device:
            done = subprocess.run([*command, device], capture_output=True, text=True, timeout=30, check=False)
    else:
        done = sim("bus", "--i2c", "1=bme280@0x76", "--transport", transport, *faults, "--", *command, "/dev/i2c-1")
    assert done.stdout.split() == ["DeviceNoAnswer", "False", "DeviceTimeout", "True"], done.stderr


class served:
    """A bench on sockets; gives the bus' name."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._command = [*SIM, "bus", "--i2c", "1=bme280@0x76", "--transport", "unix", *options]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        return self._process.stderr.readline().split()[1]

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(10) == 128 + signal.SIGINT
        assert self._process.stderr is not None
        self._process.stderr.close()


@pytest.mark.usefixtures("home")
def test_the_message_bus_is_read_by_the_same_driver() -> None:
    with served(Path()) as device:
        assert device.startswith("unix:")
        done = subprocess.run(
            [sys.executable, "-c", program("print(len(read()))"), device], capture_output=True, text=True, check=False
        )
    assert done.stdout == "3\n", done.stderr


@pytest.mark.usefixtures("home")
@pytest.mark.skipif(bool(REASONS["seccomp"]), reason=REASONS["seccomp"])
def test_threads_children_and_other_buses_do_not_disturb_one_another() -> None:
    code = program("""
import subprocess, threading
ids = []
def many():
    own = open_i2c("/dev/i2c-1")
    ids.extend(own.read(0x76, 0xD0, 1)[0] for _ in range(100))
    own.close()
threads = [threading.Thread(target=many) for _ in range(4)]
[thread.start() for thread in threads]
child = 'import sys; from hardware.buses import open_i2c; print(open_i2c("/dev/i2c-1").read(0x76, 0xD0, 1)[0])'
ids.append(int(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout))
[thread.join() for thread in threads]
print(len(ids), set(ids))
""")
    done = sim("bus", "--i2c", "1=bme280@0x76", "--", sys.executable, "-c", code, "/dev/i2c-1")
    assert done.stdout == "401 {96}\n", done.stderr


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("code", ["import sys; sys.exit(7)", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"])
def test_the_exit_code_is_the_programs(code: str) -> None:
    done = sim("bus", "--i2c", "1=bme280@0x76", "--", sys.executable, "-c", code)
    assert done.returncode == (7 if "exit" in code else 128 + signal.SIGTERM)


@pytest.fixture
def running(tmp_path: Path, home: None) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A bench whose program reads on and on."""
    code = program("""
while True:
    try:
        read()
    except DeviceError:
        pass
""")
    control = tmp_path / "control"
    command = [*SIM, "bus", "--i2c", "1=bme280@0x76", "--log", str(tmp_path / "given"), "--control", str(control)]
    with subprocess.Popen([*command, "--", sys.executable, "-c", code, "/dev/i2c-1"]) as process:
        wait_for(lambda: control.exists() and given(control) > 0)
        yield control, process
        process.kill()


def given(control: Path) -> int:
    return int(ask(control, "status")["given_out"])


def wait_for(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.skipif(bool(REASONS["seccomp"]), reason=REASONS["seccomp"])
def test_killed_and_started_again_while_the_parts_live_on(running: tuple[Path, subprocess.Popen[bytes]]) -> None:
    control, process = running
    for _ in range(3):
        pid = ask(control, "status")["pid"]
        assert ask(control, "kill") == {"ok": True, "pid": pid, "exit_code": -signal.SIGKILL}
        assert ask(control, "status")["pid"] is None
        before = given(control)
        ask(control, "start")
        with pytest.raises(Refusal, match="already"):
            ask(control, "start")
        wait_for(lambda before=before: given(control) > before)  # type: ignore[misc]
    ask(control, "stop")
    process.wait(10)
    assert not control.exists()


@pytest.mark.skipif(bool(REASONS["seccomp"]), reason=REASONS["seccomp"])
def test_faults_by_the_control_socket(running: tuple[Path, subprocess.Popen[bytes]]) -> None:
    control, _ = running
    ask(control, "fault", bus=1, address=0x76, fault="nak")
    time.sleep(0.05)
    before = given(control)
    time.sleep(0.1)
    assert given(control) == before
    ask(control, "fault", bus=1, address=0x76, fault="none")
    wait_for(lambda: given(control) > before)
    for wrong in ({"bus": 1, "address": 0x10, "fault": "nak"}, {"bus": 1, "address": 0x76, "fault": "tired"}, {}):
        with pytest.raises(Refusal):
            ask(control, "fault", **wrong)
    with pytest.raises(Refusal, match="one of: status"):
        ask(control, "dance")


@pytest.mark.skipif(bool(REASONS["seccomp"]), reason=REASONS["seccomp"])
def test_a_killed_bench_takes_its_program_along(running: tuple[Path, subprocess.Popen[bytes]]) -> None:
    control, process = running
    pid = ask(control, "status")["pid"]
    process.kill()
    process.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{pid}") or "(zombie)" in Path(f"/proc/{pid}/status").read_text())


@pytest.mark.parametrize(
    "text", ["", "1", "x=bme280@0x76", "1=bme280", "1=bme281@0x76", "1=bme280@118", "1=bme280@0x76,", "1=bme280@0x99"]
)
def test_descriptions_that_cannot_be_read(text: str) -> None:
    with pytest.raises(parts.SpecInvalid):
        parts.parse_parts(text)


@pytest.mark.parametrize("text", ["", "1/0x76=nak", "1/0x76=tired@1-2", "0x76=nak@1-2", "1/0x76=nak@-2"])
def test_faults_that_cannot_be_read(text: str) -> None:
    with pytest.raises(parts.SpecInvalid):
        parts.parse_fault(text)


@pytest.mark.usefixtures("home")
def test_what_is_wrong_is_one_line() -> None:
    for options in (["--i2c", "1=bme280@0x76,bme280@0x76"], ["--i2c", "1=bme280@0x76", "--fault", "2/0x76=nak@0-"]):
        done = sim("bus", *options, "--", "true")
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert len(done.stderr.splitlines()) == 1
