"""The update client as a command of its own: what test suites of others drive, and a look at a repository by hand.

`python -m edge_agent.ota --metadata-dir D init ROOT`, then `refresh` or `download` with the URLs.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from edge_agent import exits
from edge_agent.errors import AgentError
from edge_agent.ota.client import TufClient
from edge_agent.ota.fetch import Fetcher, HttpFetcher
from edge_agent.ota.folder import METADATA, TARGETS, FolderFetcher
from wire.clock import SystemClock


@click.group()
@click.option(
    "--metadata-dir", type=click.Path(path_type=Path, file_okay=False), required=True, help="Trusted metadata."
)
@click.option("--metadata-url", default="", help="Where the repository's metadata lies.")
@click.option("--target-base-url", default="", help="Where its targets lie.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A copy of the repository, for URLs.",
)
@click.option("--target-name", default="", help="Target to download.")
@click.option("--target-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder to download to.")
@click.pass_context
def main(
    context: click.Context,
    metadata_dir: Path,
    metadata_url: str,
    target_base_url: str,
    folder: Path | None,
    target_name: str,
    target_dir: Path | None,
) -> None:
    """A client of a repository of The Update Framework. Exit 1 when anything is not to be trusted or not there."""
    clock = SystemClock()
    fetcher: Fetcher = HttpFetcher(clock)
    if folder is not None:
        fetcher, metadata_url, target_base_url = FolderFetcher(folder), METADATA, TARGETS
    client = TufClient(metadata_dir, metadata_url, target_base_url, fetcher, clock)
    context.obj = (client, target_name, target_dir)


@main.command()
@click.argument("trusted_root", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.pass_obj
def init(obj: tuple[TufClient, str, Path | None], trusted_root: Path) -> None:
    """Trust this root from now on."""
    obj[0].init(trusted_root.read_bytes())


@main.command()
@click.pass_obj
def refresh(obj: tuple[TufClient, str, Path | None]) -> None:
    """Bring the metadata up to date."""
    obj[0].refresh()


@main.command()
@click.pass_obj
def download(obj: tuple[TufClient, str, Path | None]) -> None:
    """Bring the metadata up to date, then the target into the folder, under its quoted name."""
    client, name, folder = obj
    if folder is None or not name:
        raise click.UsageError("--target-name and --target-dir are needed")
    client.download(name, folder / quote(name, ""))


if __name__ == "__main__":
    try:
        main()
    except AgentError as error:
        raise SystemExit(exits.fail(error)) from error
