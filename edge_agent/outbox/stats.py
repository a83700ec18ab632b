"""What the recorder tells: of one commit, and of itself for `status`."""

from __future__ import annotations

from dataclasses import dataclass

from wire.reading import LossReason


@dataclass(frozen=True, slots=True)
class CommitReport:
    """One fsynced transaction: Seq first..end of `epoch` were given; `settled` Seq numbers need us no more."""

    epoch: int
    first: int
    end: int
    atoms: int
    bytes: int
    settled: int
    evicted: int
    journal_lsn: int


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """A look at the recorder; `cells` are values and gaps."""

    epoch: int
    next_seq: int
    epochs: int  # this outbox has known
    atoms: int  # waiting for the cloud
    cells: int
    bytes: int
    oldest_age_s: float | None  # by boottime; None when nothing waits. Of an earlier boot: at least this
    history_atoms: int  # acknowledged and still here
    history_bytes: int
    rollup_bytes: int  # of `bytes`: what thinning left
    disk_bytes: int  # database, WAL and reserve, and the copy of a damaged outbox
    used_bytes: int  # of these, what is not free for readings
    disk_bytes_max: int  # the budget, or what the disk leaves above its floor
    disk_full: bool  # the last commit found no room
    journal_ticks: int  # taken, not committed
    journal_fill: float  # 0 to 1
    commit_interval_s: float
    power_cut_window_s: float  # what a power cut now may cost at most; grows while the disk refuses commits
    commits: int  # since the process started
    commits_failed: int
    committed_cells: int
    committed_bytes: int
    grown_bytes: int  # of pages, by what was committed since the process started
    last_commit_age_s: float | None
    losses: dict[LossReason, int]  # cells, since the outbox was made
    alarms_lost: int  # changes of alarms, since the outbox was made
