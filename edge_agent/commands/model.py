"""`edge-agent model list | test | run`. The runtime is imported inside the commands: `status` must not pay for it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from edge_agent import exits
from edge_agent.commands.lazy import LazyGroup
from edge_agent.commands.options import json_option

folder_option = click.option(
    "--models",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of models; may be given several times. Default: what is installed.",
)


SLOTS = {
    "activate": "edge_agent.commands.model_slots:activate_model",
    "explain": "edge_agent.commands.model_slots:explain_model",
    "import": "edge_agent.commands.model_slots:import_models",
    "rollback": "edge_agent.commands.model_slots:rollback_model",
    "trust": "edge_agent.commands.model_slots:trust_root",
}


@click.group(cls=LazyGroup, elsewhere=SLOTS)
def model() -> None:
    """Anomaly models: what is there, whether it is sound, and what it finds in a file."""


@model.command("list")
@folder_option
@json_option
def list_models(folders: tuple[Path, ...], as_json: bool) -> None:
    """List the models, and why one is refused. Exit 1 when one is."""
    from edge_agent.detect.contract import load_model
    from edge_agent.detect.errors import ModelRefused
    from edge_agent.detect.library import model_folders

    rows = []
    for title, path in model_folders(*_chosen(folders)).items():
        row: dict[str, object] = {"model": title, "folder": str(path), "problem": ""}
        try:
            manifest = load_model(path).manifest
            row |= {
                "task": manifest.task,
                "units": manifest.units,
                "calibration_rows": manifest.calibration.rows,
                "threshold": manifest.threshold.default,
                "license": manifest.license,
            }
        except ModelRefused as error:
            row["problem"] = str(error)
        rows.append(row)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "models": rows}, indent=2))
    else:
        for row in rows:
            text = row["problem"] or f"{row['task']}, threshold {row['threshold']}, {row['folder']}"
            click.echo(f"{row['model']}  {text}")
        if not rows:
            click.echo("no models. Try: edge-agent model list --models FOLDER", err=True)
    raise SystemExit(exits.FAILED if any(row["problem"] for row in rows) else exits.OK)


@model.command("test")
@click.argument("name", required=False)
@folder_option
@json_option
def test_models(name: str | None, folders: tuple[Path, ...], as_json: bool) -> None:
    """Hold NAME (or every model) to the contract and its golden vectors, here on this machine. Exit 1 on a failure."""
    from edge_agent.detect.contract import load_model
    from edge_agent.detect.errors import ModelRefused
    from edge_agent.detect.golden import Check, check_model
    from edge_agent.detect.library import find_model, model_folders
    from edge_agent.detect.session import Session

    results: dict[str, list[Check]] = {}
    try:
        paths = [find_model(name, *_chosen(folders))] if name else list(model_folders(*_chosen(folders)).values())
    except ModelRefused as error:
        raise SystemExit(exits.fail(error)) from error
    for path in paths:
        title = f"{path.parent.name}/{path.name}"
        try:
            session = Session(load_model(path))
            results[title] = [Check("contract", ""), *check_model(session)]
        except ModelRefused as error:
            results[title] = [Check("contract", str(error))]
    bad = not results or any(check.problem for checks in results.values() for check in checks)
    if as_json:
        told = {title: {check.name: check.problem for check in checks} for title, checks in results.items()}
        click.echo(json.dumps({"schema_version": 1, "models": told}, indent=2))
    else:
        for title, checks in results.items():
            for check in checks:
                click.echo(f"{title}  {check.name}: {check.problem or 'good'}")
        if not results:
            click.echo("no models. Try: edge-agent model list --models FOLDER", err=True)
    raise SystemExit(exits.FAILED if bad else exits.OK)


@model.command("run")
@click.argument("name")
@click.option(
    "--csv",
    "source",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Input with a header line; comma, semicolon or tab; .gz is read too.",
)
@click.option("--columns", multiple=True, help="Columns to score, comma separated. Default: all but the stamp.")
@click.option("--timestamp", "stamp_column", default="", help="Column with ISO dates or seconds. Default: by its name.")
@click.option("--calibrate", type=click.IntRange(1), help="Rows that are only learnt from. Default: the model's.")
@click.option("--threshold", type=float, default=0.0, help="Score from which on a row alarms. Default: the model's.")
@click.option(
    "--out",
    "target",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Output: stamp, score, threshold, alarm (0 or 1), top (the loudest column).",
)
@folder_option
@json_option
def run_model(
    *,
    name: str,
    source: Path,
    columns: Sequence[str],
    stamp_column: str,
    calibrate: int | None,
    threshold: float,
    target: Path,
    folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Run model NAME over a CSV file as if live: one row in, one row out, no row known before its time."""
    from edge_agent.detect.contract import load_model
    from edge_agent.detect.csv_run import score_csv
    from edge_agent.detect.errors import ModelRefused
    from edge_agent.detect.library import find_model

    began = time.perf_counter()
    try:
        outcome = score_csv(
            load_model(find_model(name, *_chosen(folders))),
            source,
            target,
            columns=[part.strip() for text in columns for part in text.split(",") if part.strip()],
            stamp_column=stamp_column,
            calibration_rows=calibrate or 0,
            threshold=threshold,
        )
    except ModelRefused as error:
        raise SystemExit(exits.fail(error)) from error
    except OSError as error:
        print(f"edge-agent: {error.filename}: {error.strerror}", file=sys.stderr)
        raise SystemExit(exits.FAILED) from error
    if outcome.problem:
        print(f"edge-agent: {outcome.failed_runs} runs gave no score: {outcome.problem}", file=sys.stderr)
    if outcome.unreadable:
        print(f"edge-agent: {outcome.unreadable} cells are no numbers and were taken as missing", file=sys.stderr)
    for column in outcome.wordy:
        print(f"edge-agent: column {column!r} holds no number. Try: --columns with those that do", file=sys.stderr)
    if 0 < outcome.rows <= outcome.calibration_rows:
        print(
            f"edge-agent: the first {outcome.calibration_rows} rows are learnt from and the file has {outcome.rows}: "
            "none could alarm. Try: --calibrate with fewer",
            file=sys.stderr,
        )
    told = {
        "rows": outcome.rows,
        "alarms": outcome.alarms,
        "calibration_rows": outcome.calibration_rows,
        "unreadable_cells": outcome.unreadable,
        "columns_without_numbers": outcome.wordy,
        "failed_runs": outcome.failed_runs,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if as_json:
        click.echo(json.dumps({"schema_version": 1, **told}, indent=2))
    else:
        click.echo(f"{target}: {outcome.rows} rows, {outcome.alarms} alarms")
    raise SystemExit(exits.FAILED if outcome.problem else exits.OK)


def _chosen(folders: Sequence[Path]) -> tuple[Sequence[Path], ...]:
    """The folders as an argument, or none so that the default stands."""
    return (folders,) if folders else ()
