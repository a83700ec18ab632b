"""The tree tests itself: who imports whom, generated code, dead files, documented commands, locked requirements."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("wire", "hardware", "edge_agent", "cloud_sync", "simulator")
MAY_IMPORT = {
    "wire": {"wire"},
    "hardware": {"hardware"},
    "edge_agent": {"edge_agent", "wire", "hardware"},
    "cloud_sync": {"cloud_sync", "wire"},
    "simulator": set(PACKAGES),
}
# One importer per heavy library; the exceptions stand here and nowhere else.
HEAVY = {
    "smbus2": ("hardware/buses.py",),
    "serial": ("hardware/serial_bus.py",),
    "pymodbus": ("hardware/serial_bus.py",),
    "pynmeagps": ("hardware/drivers/nmea_gps.py",),
    "grpc": (
        "edge_agent/sync/grpc_transport.py",
        "edge_agent/sync/channel.py",
        "edge_agent/enrol/client.py",
        "cloud_sync/grpc_api/",
        "wire/v1/",
    ),
    "paho": ("edge_agent/mqtt/client.py", "simulator/mqtt_sensor.py"),
    "amqtt": ("simulator/mqtt_broker.py",),
    "sqlite_utils": ("edge_agent/outbox/",),
    "sqlalchemy": ("cloud_sync/catalog/",),
    "minio": ("cloud_sync/storage/minio_store.py",),
    "urllib3": ("cloud_sync/storage/minio_store.py",),
    "nanoarrow": ("cloud_sync/http_api/arrow.py",),
    "psycopg": (),  # SQLAlchemy loads it
    "pcodec": ("wire/",),
    "google": ("wire/v1/", "wire/messages.py", "wire/fetching.py", "cloud_sync/grpc_api/enrol.py"),
    "cryptography": (
        "edge_agent/enrol/keys.py",
        "edge_agent/ota/installing.py",
        "cloud_sync/auth/",
        "cloud_sync/rollout/",
    ),
    "fastapi": ("cloud_sync/app.py", "cloud_sync/http_api/", "cloud_sync/console/"),
    "uvicorn": ("cloud_sync/app.py", "cloud_sync/http_api/"),
    "prometheus_client": ("cloud_sync/metrics.py", "cloud_sync/http_api/"),
    "rich": ("simulator/",),
    "onnxruntime": ("edge_agent/detect/session.py",),
    "onnx": ("simulator/lab/model_variants.py",),
    "tuf": ("edge_agent/ota/", "cloud_sync/rollout/"),
    "securesystemslib": ("edge_agent/ota/", "cloud_sync/rollout/"),
}
GENERATED = ("wire/v1/",)
COMMANDS = {
    "edge-agent": "edge_agent.cli",
    "cloud-sync": "cloud_sync.cli",
    "edge-ota": "cloud_sync.ota_cli",
    "edge-sim": "simulator.cli",
}


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.relative_to(ROOT).as_posix().startswith(GENERATED):
                yield path


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imports(path)
        if name.split(".")[0] in PACKAGES and name.split(".")[0] not in MAY_IMPORT[package]
    ]
    assert wrong == []


def test_one_importer_per_heavy_library() -> None:
    wrong = [
        f"{relative} imports {name}"
        for path in sources(*PACKAGES)
        for name in imports(path)
        if (relative := path.relative_to(ROOT).as_posix())
        and (allowed := HEAVY.get(name.split(".")[0])) is not None
        and not relative.startswith(allowed)
    ]
    assert wrong == []


def test_generated_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    protos = sorted((ROOT / "protos").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iprotos"]
    command += [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    subprocess.run([*command, *(p.relative_to(ROOT).as_posix() for p in protos)], cwd=ROOT, check=True)
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.py*"))
    assert len(made) == 3 * len(protos)
    stale = [str(p) for p in made if (tmp_path / p).read_bytes() != (ROOT / p).read_bytes()]
    assert stale == [], "Try: make protos"


def test_no_dead_files() -> None:
    """Every module is reached by an import, an entry point or `python -m` from something that is itself reached."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    modules = {p.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): p for p in sources(*PACKAGES)}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    points = [*project["scripts"].values(), *project["entry-points"]["edge_agent.drivers"].values()]
    todo = {point.split(":")[0] for point in points} | {name for name in modules if name.endswith("__main__")}
    # Files that others run by name (`python -m ...`, a packaged unit) appear as text in the code that runs them.
    texts = "\n".join(p.read_text(encoding="utf-8") for p in sources(*PACKAGES))
    todo |= {name for name in modules if f'"{name}"' in texts or f'"{name}:' in texts}
    # The conformance kit is there for driver authors and is used by the tests.
    todo.add("hardware.drivers.testing")
    alive: set[str] = set()
    while todo:
        name = todo.pop()
        if name in alive or name not in modules:
            continue
        alive.add(name)
        todo |= imports(modules[name]) | {name.rpartition(".")[0]}
    assert sorted(set(modules) - alive) == []


def options_of(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """(command path, word to find in the docs) for the command, its options and its sub-commands."""
    yield path, path
    for parameter in command.params:
        if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            yield path, max(parameter.opts, key=len)
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from options_of(child, f"{path} {name}")


@pytest.mark.parametrize("program", COMMANDS)
def test_every_command_and_option_is_documented(program: str) -> None:
    """An option stands on a page that names its command: the same word elsewhere is another command's."""
    pages = [p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs/operating").glob("*.md"))]
    main = import_module(COMMANDS[program]).main
    missing = []
    for path, word in options_of(main, program):
        own = "\n".join(page for page in pages if re.search(re.escape(path) + r"\b", page))
        if not re.search(re.escape(word) + r"\b", own):
            missing.append(f"{path}: {word}")
    assert missing == []


FUNCTION_LINES_MAX = 70


def test_functions_fit_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {node.name} has {lines} lines"
        for path in sources(*PACKAGES, "benchmarks", "tests")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_public_code_states_its_contract() -> None:
    bare = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(*PACKAGES)
        for name, node in public(ast.parse(path.read_text(encoding="utf-8")))
        if not ast.get_docstring(node)
    ]
    assert bare == []


def public(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Classes, functions and methods without an underscore; a Protocol's methods are told by its own docstring."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef) and "Protocol" not in {ast.unparse(base) for base in node.bases}:
                yield from public(node)


def test_pointers_lead_somewhere() -> None:
    """A path of this tree that code or a page names is there."""
    wrong = []
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *sources(*PACKAGES, "benchmarks", "tests")]
    for path in pages:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(
            r"\b(?:docs|benchmarks|tests|protos|simulator|models)/[\w./-]+\.(?:md|py|proto)\b", text
        ):
            if not (ROOT / name).exists():
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []


def test_every_command_explains_itself() -> None:
    bare = [
        path
        for program, module in COMMANDS.items()
        for path, command in walk(import_module(module).main, program)
        if not (command.help or "").strip() or any(isinstance(p, click.Option) and not p.help for p in command.params)
    ]
    assert bare == []


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from walk(child, f"{path} {name}")


@pytest.mark.parametrize("extra", ["edge", "cloud", "hsm", "dev"])
def test_requirements_are_locked_and_name_no_index(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    lock = (ROOT / "requirements" / f"{extra}.txt").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    names = {re.split(r"[\[<>=~ ]", line)[0].lower() for line in wanted} - {"tidegate"}
    assert names - locked == set(), "Try: make lock"
    entries = re.split(r"\n(?=[a-z0-9])", lock.strip())
    assert [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"://|--index-url|--find-links|--extra-index", lock)
