"""Is everything in the outbox what it claims to be?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_agent.buffer.source import Source, atoms, series_sets
from edge_agent.outbox.buffer_file import names_of
from edge_agent.outbox.keys import first_of, number_of
from edge_agent.outbox.proof import fault_of
from wire.codec import decode
from wire.errors import WireError
from wire.reading import Kind
from wire.rollup import rollup_types
from wire.segment import Segment
from wire.series import SeriesSet

PROBLEMS_MAX = 20  # told one by one


@dataclass(slots=True)
class Verdict:
    """What was looked at, and what is wrong. `pages`: the whole file was read; not while an agent has it."""

    atoms: int = 0
    cells: int = 0
    bytes: int = 0
    pages: bool = False
    problems_count: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, problem: str) -> None:
        """One more thing that is wrong."""
        self.problems_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {"schema_version": 1, "good": not self.problems_count, **asdict(self)}


def verify(source: Source, tell: Callable[[int], None] = lambda atoms: None) -> Verdict:
    """Decode every atom, and compare it with its key and with the definitions that it names.

    Where no agent runs, also every page, and that each reading owed to the cloud is in an atom. `tell`: the progress.

    Raises:
        OutboxCorrupt, StateUnusable, RequestRefused: it cannot be read at all.
    """
    verdict = Verdict()
    if source.file is not None:
        damage = source.file.damage()
        if damage:
            verdict.note(f"damaged page: {damage}")
    sets = series_sets(source)
    for atom_id, _, count, data in atoms(source):
        verdict.atoms += 1
        verdict.cells += count
        verdict.bytes += len(data)
        fault = fault_of(atom_id, count, data) or _undecodable(data, sets)
        if fault:
            verdict.note(f"epoch {number_of(atom_id)}, Seq {first_of(atom_id)}..{first_of(atom_id) + count}: {fault}")
        tell(verdict.atoms)
    if source.file is not None:
        verdict.pages = True
        for epoch, holes in source.file.missing():
            verdict.note(f"epoch {epoch:016x}: Seq {names_of(holes)} are owed to the cloud and in no atom")
    return verdict


def _undecodable(data: bytes, sets: dict[int, SeriesSet]) -> str:
    try:
        segment = decode(data)
    except WireError as error:
        return str(error)
    return _unlike(segment, sets)


def _unlike(segment: Segment, sets: dict[int, SeriesSet]) -> str:
    for block in segment.blocks:
        defined = sets.get(block.set_id)
        if defined is None:
            return f"series set {block.set_id:016x} is not defined here"
        types = defined.value_types if segment.kind is Kind.RAW else rollup_types(defined.value_types)
        if len(block.columns) != len(types):
            return f"{len(block.columns)} columns, series set {block.set_id:016x} asks for {len(types)}"
    return ""
