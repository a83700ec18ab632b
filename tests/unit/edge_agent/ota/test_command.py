"""`python -m edge_agent.ota`: the client as test suites of others drive it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from tests.unit.edge_agent.ota.http_site import Site, serving
from tests.unit.edge_agent.ota.repository import Repository


def client(folder: Path, site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As the public conformance suite calls it."""
    options = [f"--metadata-dir={folder / 'metadata'}"]
    if "init" not in arguments:
        options += [f"--metadata-url={site.url}/metadata/", f"--target-base-url={site.url}/targets/"]
        options += [f"--target-dir={folder / 'targets'}"]
    command = [sys.executable, "-m", "edge_agent.ota", *options, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_init_refresh_download(tmp_path: Path) -> None:
    repository = Repository(consistent=False)
    for content in (repository.root, repository.timestamp, repository.snapshot, repository.targets):
        content.expires = content.expires.replace(year=2100)
    repository.roots.clear()
    repository.publish_root()
    repository.add_target("path/to/a file", b"contents")
    repository.publish("targets")
    with serving() as site:
        for role in ("timestamp", "snapshot", "targets"):
            site.files[f"/metadata/{role}.json"] = repository.signed(role, repository.content(role))
        site.files["/targets/path/to/a%20file"] = b"contents"
        (tmp_path / "root.json").write_bytes(repository.roots[0])
        (tmp_path / "metadata").mkdir()
        assert client(tmp_path, site, "refresh").returncode == 1
        assert client(tmp_path, site, "init", str(tmp_path / "root.json")).returncode == 0
        assert client(tmp_path, site, "refresh").returncode == 0
        told = client(tmp_path, site, "--target-name=nothing", "download")
        assert told.returncode == 1
        assert told.stderr == "edge-agent: no role names the target 'nothing'\n"
        assert client(tmp_path, site, "--target-name=path/to/a file", "download").returncode == 0
        assert (tmp_path / "targets" / quote("path/to/a file", "")).read_bytes() == b"contents"
