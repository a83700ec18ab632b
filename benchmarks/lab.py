"""The fault lab's scoreboard: our agent and others under the same kinds of faults. See docs/operating/lab.md.

python -m benchmarks.lab --json benchmarks/results/lab.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.report import OURS, Report
from simulator.lab.board import scoreboard, watch
from simulator.lab.outcome import Score, score
from simulator.lab.peers.run import NAMES, describe
from simulator.lab.processes import LabFailed
from simulator.lab.trials import Agent, Order, bench_for, run_trials

METHOD = (
    "Seeded trials; each draws faults at random times, then a quiet time, then sets of distinct values are compared. "
    "Ours in virtual time: 3 to 12 faults in a minute; with real processes: 3 to 7 faults in 8 s, a reading is taken "
    "once the agent's journal holds it, and lost in a power cut are only readings outside the window that the agent "
    "prints. Others: as ours, of the faults that come from outside (all of the network's, SIGKILL, SIGSTOP, full card, "
    "power cut) and with the same weights, 200 readings/s; they are started again when they end; a reading is accepted "
    "once they have answered it with PUBACK, and arrived once a broker has read it, within 60 s of the last fault or "
    "until nothing new came for 12 s; a power cut excuses what was accepted in the 2 s before it, as much as ours. "
    "MQTT promises at least once: their doubled readings are in "
    "keeping with it, their lost ones are not. "
)
METRICS = ("trials", "taken", "stored", "tombstoned", "excused", "lost", "doubled")


def add(report: Report, found: Score) -> None:
    """One row of the board as numbers."""
    system = OURS if found.system == Agent.TIDEGATE else found.system
    for metric in METRICS:
        report.add(system, found.method, metric, getattr(found, metric), "trials" if metric == "trials" else "readings")
    report.add(system, found.method, "failed", len(found.failed_seeds), "trials")


def main(arguments: list[str]) -> int:
    """Run everything; exit code 0 only if our own rows hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument("--seed", type=int, default=1, help="of the first trial of each row")
    parser.add_argument("--virtual", type=int, default=1000, help="trials of ours in virtual time")
    parser.add_argument("--real", type=int, default=100, help="trials of ours with real processes")
    parser.add_argument("--peers", type=int, default=30, help="trials of each other agent")
    parser.add_argument("--add", nargs="*", default=[], metavar="FILE", help="no trials: counts of edge-sim lab --json")
    options = parser.parse_args(arguments)
    report = Report("lab", METHOD, ("grpcio", "numpy"))
    scores = [score_of(Path(file)) for file in options.add] or run(options, report)
    for found in scores:
        add(report, found)
    report.method += " ".join(f"{describe(name)}." for name in NAMES if any(found.system == name for found in scores))
    Console(width=120).print(scoreboard(scores))
    report.finish(options.json)
    return 0 if all(found.holds for found in scores if found.system == Agent.TIDEGATE) else 1


def score_of(file: Path) -> Score:
    """Of an earlier run."""
    counts = json.loads(file.read_text(encoding="utf-8"))
    same = ("method", "trials", "taken", "stored", "tombstoned", "lost", "doubled", "faults")
    return Score(
        system=counts["agent"],
        excused=counts["power_cut"],
        failed_seeds=tuple(counts["failed_seeds"]),
        **{name: counts[name] for name in same},
    )


def run(options: argparse.Namespace, report: Report) -> list[Score]:
    """Every row; what cannot be run here is left out, and said."""
    cores = os.cpu_count() or 1
    orders = [Order(options.virtual, options.seed, cores), Order(options.real, options.seed, cores + 1, real=True)]
    orders += [Order(options.peers, options.seed, cores, Agent(name)) for name in NAMES]
    scores: list[Score] = []
    for order in orders:
        if not order.trials:
            continue
        try:
            with bench_for(order) as bench:
                results = watch(run_trials(order, bench), order.trials, f"{order.agent.value}, {order.method}")
        except LabFailed as error:
            print(f"{order.agent.value} is left out: {error}", file=sys.stderr)
            continue
        scores.append(score(order.agent.value, order.method, results))
        report.method += bench.note and f"{order.agent.value}: {bench.note}. "
    return scores


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
