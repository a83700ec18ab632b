"""What `edge-sim lab` shows: a bar while it runs, then the scoreboard, and for each failing seed how to replay it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from simulator.lab.outcome import Score, TrialResult

FAILURES_SHOWN = 10
STORY_SHOWN = 40
WIDTH = 120  # of the scoreboard, where there is no terminal
LINES = 10  # of progress, where there is no terminal


def watch(results: Iterable[TrialResult], trials: int, title: str) -> list[TrialResult]:
    """Show progress until all are there."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[found]}"))
    found: list[TrialResult] = []
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=trials, found="")
        for result in results:
            found.append(result)
            if not result.holds:
                progress.console.print(
                    Text(f"seed {result.seed} fails: {result.broken[0]}", style="red"), soft_wrap=True
                )
            text = _so_far(found)
            progress.update(task, advance=1, found=text)
            if not console.is_terminal and len(found) % max(1, trials // LINES) == 0:
                console.print(f"{title}: {len(found)} of {trials} trials, {text}", soft_wrap=True)
    return found


def _so_far(found: Sequence[TrialResult]) -> str:
    failed = sum(not result.holds for result in found)
    taken = sum(result.taken for result in found)
    return f"{taken:,} readings, {failed} failing" if failed else f"{taken:,} readings"


def scoreboard(scores: Sequence[Score]) -> Table:
    """A row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("agent")
    table.add_column("method", no_wrap=True)
    for name in ("trials", "taken", "stored", "tombstoned", "power cut", "lost", "doubled", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for score in scores:
        table.add_row(
            score.system,
            score.method,
            f"{score.trials:,}",
            f"{score.taken:,}",
            f"{score.stored:,}",
            f"{score.tombstoned:,}",
            f"{score.excused:,}",
            _judged(score.lost),
            _judged(score.doubled),
            _judged(len(score.failed_seeds)),
        )
    return table


def summary(score: Score, results: Sequence[TrialResult], replay: Callable[[int], str], seconds: float) -> None:
    """The board of one run, and what failed."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    failures = sorted((result for result in results if not result.holds), key=lambda result: result.seed)
    for result in failures[:FAILURES_SHOWN]:
        console.print(Text(f"seed {result.seed} fails", style="bold red"))
        for text in result.broken:
            console.print(Text(f"  {text}"), soft_wrap=True)
        if len(results) == 1:
            for line in result.story[:STORY_SHOWN]:
                console.print(Text(f"  {line}", style="dim"), soft_wrap=True)
        else:
            console.print(Text(f"  again, with its story: {replay(result.seed)}", style="dim"), soft_wrap=True)
    if len(failures) > FAILURES_SHOWN:
        console.print(f"and {len(failures) - FAILURES_SHOWN} more: --json names them all")
    faults = ", ".join(f"{kind} {number}" for kind, number in score.faults.items())
    console.print(Text(f"trials by fault: {faults}", style="dim"))
    console.print(scoreboard([score]))
    text = "Nothing lost, nothing doubled." if score.holds else "IT DOES NOT HOLD."
    console.print(Text.assemble((text, "bold green" if score.holds else "bold red"), (f" {seconds:.0f} s", "dim")))


def _judged(number: int) -> Text:
    return Text(f"{number:,}", style="bold red" if number else "green")
