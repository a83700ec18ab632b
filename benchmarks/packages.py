"""The Debian packages: `python -m benchmarks.packages [--json FILE]`. How large, how exposed, and what lintian says."""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.report import OURS, Report

ROOT = Path(__file__).resolve().parents[1]
PACKAGING = ROOT / "packaging/deb"
METHOD = (
    "`packaging/deb/build.py` makes all three packages, as `make deb` does. size_mb is the file's, installed_mb the "
    "control file's Installed-Size (MB = 10^6 bytes). cpu_s is what pip and xz used for all of them (not with "
    "--built); pip takes wheels from its cache where it has them. exposure is the level that `systemd-analyze "
    "security --offline=true` gives, 0 to 10. lintian's overridden tags have their reasons in "
    "packaging/deb/*/lintian-overrides."
)


def main() -> None:
    """Build, look, print, and write the JSON where a path is given."""
    parser = argparse.ArgumentParser(description="Sizes and figures of the Debian packages.")
    parser.add_argument(
        "--built", type=Path, metavar="DIST", help="look at these packages of `make deb`; no cpu_s then"
    )
    parser.add_argument("--json", type=Path, help="write the report here")
    arguments = parser.parse_args()
    report = Report("packages", METHOD, ())
    with tempfile.TemporaryDirectory() as folder:
        if arguments.built is None:
            subprocess.run([sys.executable, str(PACKAGING / "build.py"), "--out", folder], check=True)
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            report.add(OURS, "all", "cpu_s", used.ru_utime + used.ru_stime, "s")
        for package in sorted((arguments.built or Path(folder)).glob("*.deb")):
            _measure(package, report)
    for unit in sorted(PACKAGING.glob("*/*.service")):
        report.add(OURS, unit.name, "exposure", exposure(unit), "1")
    report.finish(arguments.json)


def _measure(package: Path, report: Report) -> None:
    name, _, arch = package.stem.split("_")
    case = f"{name} {arch}"
    kibibytes = _output("dpkg-deb", "--field", str(package), "Installed-Size")
    report.add(OURS, case, "size_mb", package.stat().st_size / 1e6, "MB")
    report.add(OURS, case, "installed_mb", int(kibibytes) * 1024 / 1e6, "MB")
    tags = Counter(re.findall(r"^([EWO]):", _output("lintian", "--allow-root", "--show-overrides", str(package)), re.M))
    for letter, metric in (("E", "lintian_errors"), ("W", "lintian_warnings"), ("O", "lintian_overridden")):
        report.add(OURS, case, metric, tags[letter], "1")


def exposure(unit: Path) -> float:
    """What `systemd-analyze security` says of a unit's file, 0 to 10; smaller is better."""
    said = _output("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit))
    return float(said.rpartition(f"{unit.name}:")[2].split()[0])


def _output(*command: str) -> str:
    """lintian ends with 2 where it finds an error: that is a figure too."""
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


if __name__ == "__main__":
    main()
