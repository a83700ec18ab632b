"""Does an atom prove itself? Its CRC must hold, and it must name the same Seq, count and slot as its key."""

from __future__ import annotations

from edge_agent.outbox.keys import ROLLUP_SLOT, first_of, slot_of
from wire.codec import read_header
from wire.errors import WireError
from wire.reading import Kind


def fault_of(atom_id: int, count: int, data: bytes) -> str:
    """What is wrong with the atom under this key; "" for nothing. Columns are not decoded."""
    try:
        header = read_header(data)
    except WireError as error:
        return str(error)
    slot = int(header.priority) if header.kind is Kind.RAW else ROLLUP_SLOT
    found = [(atom.first, atom.count, slot) for atom in header.atoms]
    named = (first_of(atom_id), count, slot_of(atom_id))
    if found != [named]:
        return f"its key says Seq, count, class {named}, its bytes {found[:3]}"
    return ""
