"""Options that several commands share, and how their failures end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud_sync.errors import CloudError, ConfigInvalid

if TYPE_CHECKING:
    from cloud_sync.catalog.sql_catalog import SqlCatalog

EXIT_CONFIG = 78  # sysexits(3) EX_CONFIG: a supervisor should not restart

data_option = click.option(
    "--data",
    "data",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the service: catalog, objects, keys.",
)
catalog_option = click.option(
    "--catalog",
    envvar="CLOUD_SYNC_CATALOG",
    metavar="URL",
    help="postgresql://USER@HOST/DATABASE instead of SQLite in the folder; password in PGPASSWORD or PGPASSFILE.",
)
store_option = click.option(
    "--object-store",
    "store",
    envvar="CLOUD_SYNC_OBJECT_STORE",
    metavar="URL",
    help="s3://BUCKET/PREFIX?endpoint=URL&region=NAME instead of the folder; keys in AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY or ~/.aws/credentials.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON with stable fields.")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Expected failures end as one line on stderr: exit 78 for a wrong setting, 1 for the rest."""
    try:
        yield
    except CloudError as error:
        click.echo(f"cloud-sync: {error}", err=True)
        sys.exit(EXIT_CONFIG if isinstance(error, ConfigInvalid) else 1)


@contextmanager
def opened_catalog(data: Path, url: str | None) -> Iterator[SqlCatalog]:
    """The catalog of an initialised folder, for one command."""
    from cloud_sync.data_folder import DataFolder
    from wire.clock import SystemClock

    with one_line_errors():
        folder = DataFolder(data, url)
        folder.require_initialised()
        with closing(folder.open_catalog(SystemClock())) as opened:
            yield opened
