"""The files of a package: wheels for the target machine and our own code under /usr/lib, the same for each builder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "3.11"  # of Debian 12: the compiled libraries fit this one only

# manylinux tags that glibc 2.36 of Debian 12 satisfies (PEP 600), newest first.
GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

# What no package of ours runs: pip comes with sqlite-utils' `install` command, tzdata is Debian's own package.
DROPPED = ("bin", "pip", "pip-*.dist-info", "tzdata", "tzdata-*.dist-info")
# Parts of libraries that serve building, testing and training.
PRUNED = (
    "**/tests",
    "**/test_data",
    "**/*.pyi",
    "**/*.pxd",
    "**/*.pyx",
    "**/*.pxi",
    "**/*.h",
    "**/*.a",
    "**/include",
    "**/__pycache__",
    "**/.gitignore",
    "**/*.sh",
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "numpy/distutils",
    "numpy/f2py",
    "onnxruntime/backend",
    # The runtime once more, for programs in C: the Python module holds a whole one.
    "onnxruntime/capi/libonnxruntime.so.*",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "numpy/**/_*_tests.*.so",
    "Crypto/SelfTest",
)

# ELF header, e_machine at byte 18 (System V ABI, and the supplements for x86-64 and AArch64).
ELF_MACHINES = {"amd64": 62, "arm64": 183}


class ForeignLibrary(Exception):
    """A library that the target's machine cannot load."""


@dataclass(frozen=True)
class Program:
    """One package: its command, the extra whose lock it installs, and which of our packages it runs."""

    name: str
    extra: str
    modules: tuple[str, ...]
    commands: tuple[tuple[str, str, str], ...]  # command, module that is started, module of its `main` for manuals

    @property
    def home(self) -> str:
        """Where it lives, without the leading slash."""
        return f"usr/lib/{self.name}"

    @property
    def site(self) -> str:
        """Where its libraries and our code lie, without the leading slash."""
        return f"{self.home}/lib/python{PYTHON}/site-packages"


PROGRAMS = {
    "edge-agent": Program(
        "edge-agent",
        "edge",
        ("wire", "hardware", "edge_agent"),
        (("edge-agent", "edge_agent", "edge_agent.cli"),),
    ),
    "cloud-sync": Program(
        "cloud-sync",
        "cloud",
        ("wire", "cloud_sync"),
        (
            ("cloud-sync", "cloud_sync.cli", "cloud_sync.cli"),
            ("edge-ota", "cloud_sync.ota_cli", "cloud_sync.ota_cli"),
        ),
    ),
}


def lay_out(program: Program, arch: str, version: str, tree: Path) -> None:
    """Put libraries, code, interpreter and commands into `tree`.

    Raises:
        subprocess.CalledProcessError: a wheel is not to be had for the machine (pip's own words are on stderr).
        ForeignLibrary: a wheel brought a library for another machine than it says.
    """
    site = tree / program.site
    site.mkdir(parents=True)
    _install_wheels(program, arch, site)
    _install_ours(program, version, site)
    for pattern in PRUNED:
        for path in sorted(site.glob(pattern), reverse=True):
            _remove(path)
    check_libraries(site, arch)
    _link_duplicates(site)
    _make_interpreter(program, tree)


def _install_wheels(program: Program, arch: str, site: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--target", str(site)]
    command += ["--requirement", str(ROOT / "requirements" / f"{program.extra}.txt")]
    command += ["--python-version", PYTHON, "--implementation", "cp"]
    for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none"):
        command += ["--abi", abi]
    for tag in GLIBC:
        command += ["--platform", f"{tag}_{MACHINES[arch]}"]
    subprocess.run(command, check=True)
    for pattern in DROPPED:
        for path in site.glob(pattern):
            _remove(path)


def _install_ours(program: Program, version: str, site: Path) -> None:
    """Our packages and the metadata by which drivers and the version are found; models beside them."""
    for module in program.modules:
        shutil.copytree(ROOT / module, site / module, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"tidegate-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tidegate\nVersion: {version}\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(_entry_points(program), encoding="utf-8")
    # Drivers and other extensions of the owner, as pip install --target puts them there.
    own = f"/usr/local/lib/{program.name}/python"
    (site / "own-extensions.pth").write_text(f"{own}\n", encoding="utf-8")


def _entry_points(program: Program) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines: list[str] = []
    for group, points in project["entry-points"].items():
        ours = {name: target for name, target in points.items() if target.split(".")[0] in program.modules}
        if ours:
            lines += [f"[{group}]", *(f"{name} = {target}" for name, target in ours.items()), ""]
    return "\n".join(lines)


def _make_interpreter(program: Program, tree: Path) -> None:
    """A virtual environment on Debian's python3, and one small command per program that starts it isolated."""
    home = tree / program.home
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to("/usr/bin/python3")
    (home / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n", encoding="utf-8"
    )
    (tree / "usr/bin").mkdir(parents=True)
    for command, module, _ in program.commands:
        path = tree / "usr/bin" / command
        path.write_text(f'#!/bin/sh\nexec /{program.home}/bin/python3 -I -m {module} "$@"\n', encoding="utf-8")
        path.chmod(0o755)


def check_libraries(site: Path, arch: str) -> None:
    """Every library under `site` is for `arch`. Raises ForeignLibrary."""
    for path in sorted(site.rglob("*.so*")):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            head = file.read(20)
        if head[:4] != b"\x7fELF":
            continue
        machine = int.from_bytes(head[18:20], "little")
        if machine != ELF_MACHINES[arch]:
            raise ForeignLibrary(f"{path}: ELF machine {machine}, {arch} has {ELF_MACHINES[arch]}")


def _link_duplicates(site: Path) -> None:
    """Libraries that wheels hold two or three times under their versions' names become links to the longest name."""
    by_content: dict[tuple[int, bytes], list[Path]] = {}
    for path in sorted(site.rglob("*.so*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > 1 << 16:
            by_content.setdefault((path.stat().st_size, path.read_bytes()), []).append(path)
    for paths in by_content.values():
        keep = max(paths, key=lambda path: len(path.name))
        for path in paths:
            if path != keep and path.parent == keep.parent:
                path.unlink()
                path.symlink_to(keep.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()
