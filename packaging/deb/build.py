"""Build the Debian packages: edge-agent for amd64 and arm64, cloud-sync for amd64. No compiler, no root, any Linux.

Usage: python packaging/deb/build.py --out dist
The same commit gives the same bytes: times are the commit's, order and modes are fixed, libraries come by hash.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tree as trees

HERE = Path(__file__).resolve().parent
MAINTAINER = "Tidegate maintainers <maintainers@tidegate.invalid>"
BYTES_MAX = 50_000_000  # of one package
LEVEL = 2  # of xz: 6 makes packages a tenth smaller in more than twice the CPU time
TARGETS = (("edge-agent", "amd64"), ("edge-agent", "arm64"), ("cloud-sync", "amd64"))

# Which file of this folder goes where, and its mode.
FILES = {
    "edge-agent": {
        "edge-agent.service": "usr/lib/systemd/system/edge-agent.service",
        "edge-agent-join.service": "usr/lib/systemd/system/edge-agent-join.service",
        "sysusers.conf": "usr/lib/sysusers.d/edge-agent.conf",
        "tmpfiles.conf": "usr/lib/tmpfiles.d/edge-agent.conf",
        "udev.rules": "usr/lib/udev/rules.d/60-edge-agent.rules",
        "edge-agent.toml": "etc/edge-agent/edge-agent.toml",
    },
    "cloud-sync": {
        "cloud-sync.service": "usr/lib/systemd/system/cloud-sync.service",
        "sysusers.conf": "usr/lib/sysusers.d/cloud-sync.conf",
        "tmpfiles.conf": "usr/lib/tmpfiles.d/cloud-sync.conf",
        "cloud-sync.default": "etc/default/cloud-sync",
    },
}
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


def main() -> int:
    """Build what was asked for and print a line for each; exit 1 when one is too large."""
    parser = argparse.ArgumentParser(description="Build the Debian packages.")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the packages (default: dist)")
    parser.add_argument("--version", default=_version(), help="instead of the project's own")
    parser.add_argument("--only", action="append", metavar="NAME/ARCH", help="edge-agent/arm64; may be repeated")
    parser.add_argument("--level", type=int, choices=range(10), default=LEVEL, help=f"of xz (default: {LEVEL})")
    arguments = parser.parse_args()
    wanted = [target for target in TARGETS if arguments.only is None or "/".join(target) in arguments.only]
    if len(wanted) < len(arguments.only or ()) or not wanted:
        parser.error(f"--only: one of {', '.join('/'.join(target) for target in TARGETS)}")
    if shutil.which("dpkg-deb") is None:
        parser.error("dpkg-deb is missing. Try: sudo apt-get install dpkg")
    arguments.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    too_large = 0
    # Side by side, because pip works on one CPU and xz on all. The bytes do not depend on it.
    with ThreadPoolExecutor(len(wanted)) as pool:
        made = [
            pool.submit(build, trees.PROGRAMS[name], arch, arguments.version, arguments.out, arguments.level)
            for name, arch in wanted
        ]
        for each in made:
            path = each.result()
            size = path.stat().st_size
            over = size > BYTES_MAX
            too_large += over
            remark = f", over the {BYTES_MAX / 1e6:.0f} MB it may have" if over else ""
            print(f"{path}  {size / 1e6:.1f} MB{remark}", flush=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"took {time.monotonic() - begin:.0f} s; pip and xz used {used.ru_utime + used.ru_stime:.0f} s of CPU")
    return 1 if too_large else 0


def build(program: trees.Program, arch: str, version: str, out: Path, level: int) -> Path:
    """One package.

    Raises:
        subprocess.CalledProcessError: pip or dpkg-deb failed; their words are on stderr.
    """
    epoch = _epoch()
    with tempfile.TemporaryDirectory(prefix=f"{program.name}-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        trees.lay_out(program, arch, version, tree)
        _write_manuals(program, version, tree)
        _place_files(program.name, version, epoch, tree)
        _fix_modes(tree)
        _write_control(program.name, arch, version, tree)
        _set_times(tree, epoch)
        path = out / f"{program.name}_{version}_{arch}.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", f"-z{level}", "--build", str(tree), str(path)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return path


def _write_manuals(program: trees.Program, version: str, tree: Path) -> None:
    """By the package's own code and click, so that the builder's Python needs neither."""
    environment = {**os.environ, "PYTHONPATH": str(tree / program.site)}
    for name, _, module in program.commands:
        command = [sys.executable, "-B", str(HERE / "manuals.py"), name, module, version, str(tree)]
        subprocess.run(command, check=True, env=environment)


def _place_files(name: str, version: str, epoch: int, tree: Path) -> None:
    for source, target in FILES[name].items():
        path = tree / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / name / source, path)
    if name == "edge-agent":
        shutil.copytree(
            trees.ROOT / "models", tree / "usr/share/edge-agent/models", ignore=shutil.ignore_patterns("__pycache__")
        )
    documents = tree / "usr/share/doc" / name
    documents.mkdir(parents=True)
    shutil.copyfile(HERE / "copyright", documents / "copyright")
    for page in ("README.md", "CHANGELOG.md"):
        shutil.copyfile(trees.ROOT / page, documents / page)
    when = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(epoch))
    log = f"{name} ({version}) bookworm; urgency=medium\n\n  * What changed stands in CHANGELOG.md.\n\n"
    log += f" -- {MAINTAINER}  {when}\n"
    (documents / "changelog.gz").write_bytes(gzip.compress(log.encode(), 9, mtime=0))
    overrides = HERE / name / "lintian-overrides"
    place = tree / "usr/share/lintian/overrides" / name
    place.parent.mkdir(parents=True)
    shutil.copyfile(overrides, place)


def _fix_modes(tree: Path) -> None:
    """0755 for folders and what is run, 0644 for the rest."""
    for path in [tree, *tree.rglob("*")]:
        if path.is_symlink():
            continue
        runs = path.is_dir() or path.is_relative_to(tree / "usr/bin")
        path.chmod(0o755 if runs else 0o644)


def _write_control(name: str, arch: str, version: str, tree: Path) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    kibibytes = sum(-(-path.stat().st_size // 1024) for path in files)
    control = tree / "DEBIAN"
    control.mkdir(mode=0o755)
    words = {"@VERSION@": version, "@ARCH@": arch, "@MAINTAINER@": MAINTAINER, "@SIZE@": str(kibibytes)}

    def fill(source: Path) -> str:
        text = source.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    units = sorted(path.name for path in (tree / "usr/lib/systemd/system").iterdir())
    words["@UNITS@"] = " ".join(units)
    (control / "control").write_text(fill(HERE / name / "control"), encoding="utf-8")
    for script in SCRIPTS:
        path = control / script
        path.write_text(fill(HERE / "scripts" / script).replace("@NAME@", name), encoding="utf-8")
        path.chmod(0o755)
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n"
        for path in files
    ]
    (control / "md5sums").write_text("".join(sums), encoding="utf-8")
    own = sorted(f"/{path.relative_to(tree)}\n" for path in files if path.is_relative_to(tree / "etc"))
    (control / "conffiles").write_text("".join(own), encoding="utf-8")
    for path in control.iterdir():
        if path.name not in SCRIPTS:
            path.chmod(0o644)


def _set_times(tree: Path, epoch: int) -> None:
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _version() -> str:
    project = tomllib.loads((trees.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def _epoch() -> int:
    """SOURCE_DATE_EPOCH (reproducible-builds.org), or the time of the last commit."""
    told = os.environ.get("SOURCE_DATE_EPOCH", "")
    if told.isdigit():
        return int(told)
    command = ["git", "-C", str(trees.ROOT), "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
