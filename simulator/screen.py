"""What the demonstration shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from simulator.lab.count import Result

REFRESH_HZ = 4


@dataclass(frozen=True, slots=True)
class GatewayLine:
    """One gateway, now. None: nobody answers."""

    name: str
    sensors: str
    taken: int | None
    buffered: int | None
    connected: bool | None
    stored: int | None


class Screen:
    """Use as a context. `say` adds a line; `show` renews the table."""

    def __init__(self) -> None:
        self._console = Console()
        self._is_terminal = self._console.is_terminal
        self._done: list[Text] = []
        self._lines: Sequence[GatewayLine] = ()
        self._live = Live(console=self._console, refresh_per_second=REFRESH_HZ)

    def __enter__(self) -> Screen:
        self.begin_table()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_terminal:
            self._live.stop()

    def say(self, text: str, seconds: float) -> None:
        """A line that stays."""
        line = Text.assemble((f"{seconds:5.1f} s  ", "dim"), text)
        if self._is_terminal:
            self._done.append(line)
            self._render()
        else:
            self._console.print(line, soft_wrap=True)

    def show(self, lines: Sequence[GatewayLine]) -> None:
        """The gateways as they are."""
        self._lines = lines
        if self._is_terminal:
            self._render()

    def begin_table(self) -> None:
        """A fresh table, below whatever was printed."""
        if self._is_terminal:
            self._done = []
            self._live = Live(console=self._console, refresh_per_second=REFRESH_HZ)
            self._live.start()

    def summary(self, result: Result, url: str) -> None:
        """The two counts, side by side, and what the model found."""
        count = result.count
        table = Table(show_header=False, title="two independent counts", title_justify="left", pad_edge=False, box=None)
        table.add_column(justify="right")
        table.add_column()
        table.add_row(f"{count.taken}", "taken: distinct values that the sensors gave out and the journal holds")
        table.add_row(f"{count.stored}", "stored: of these, returned by the query API")
        table.add_row(f"{count.lost}", "lost", style="green" if count.lost == 0 else "bold red")
        table.add_row(f"{count.doubled}", "doubled", style="green" if count.doubled == 0 else "bold red")
        if count.foreign:
            table.add_row(f"{count.foreign}", "stored, but given out by no sensor", style="bold red")
        table.add_row(f"{count.in_flight}", "in flight at the kill: given out, and not yet in the journal")
        table.add_row(
            f"{result.wire_bytes_per_reading:.2f}",
            f"socket bytes per reading, both ways, {result.handshakes} TLS handshakes included",
        )
        delay_s = result.anomaly_delay_s
        found = "–" if delay_s is None else f"{delay_s:.1f} s"
        table.add_row(
            found,
            "from the bearing's fault to its alarm in the cloud",
            style="bold red" if delay_s is None else "green",
        )
        table.add_row(
            f"{result.false_alarms}", "false alarms before it", style="bold red" if result.false_alarms else "green"
        )
        good, bad = result.ota_good_active, result.ota_bad_refused
        reasons = ", ".join(f"{name}: {reason}" for name, reason in result.ota_reasons.items())
        table.add_row("yes" if good else "NO", "a better model runs", style="green" if good else "bold red")
        table.add_row(
            "yes" if bad else "NO", f"bad models do not run ({reasons})", style="green" if bad else "bold red"
        )
        table.add_row(f"{result.seconds:.0f} s", "all told")
        text = "The counts hold." if count.holds else "THE COUNTS DO NOT HOLD."
        if not result.alarms_hold:
            text += " THE ALARMS ARE NOT AS THEY MUST BE."
        if not (good and bad):
            text += " THE UPDATES ARE NOT AS THEY MUST BE."
        verdict = Text(text, style="bold green" if result.holds else "bold red")
        if self._is_terminal:
            self._live.stop()
        self._console.print(table)
        self._console.print(verdict)
        if url:
            self._console.print(Text.assemble("Look around: ", (url, f"link {url}"), "   (Ctrl-C ends it)"))

    def _render(self) -> None:
        table = Table(box=None, pad_edge=False)
        for name, side in (("gateway", "left"), ("sensors", "left"), ("taken", "right"), ("buffering", "right")):
            table.add_column(name, justify="right" if side == "right" else "left")
        table.add_column("link")
        table.add_column("stored", justify="right")
        for line in self._lines:
            table.add_row(
                line.name,
                line.sensors,
                _number(line.taken),
                _number(line.buffered),
                {None: "[red]agent down[/]", True: "[green]up[/]", False: "[yellow]down[/]"}[line.connected],
                _number(line.stored),
            )
        self._live.update(Group(*self._done, Text(), table))


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
