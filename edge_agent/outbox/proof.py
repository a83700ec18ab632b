"""Does an atom prove itself? Its CRC must hold, and it must name the same Seq, count and class as its key."""

from __future__ import annotations

from edge_agent.outbox.keys import first_of, priority_of
from wire.codec import read_header
from wire.errors import WireError


def fault_of(atom_id: int, count: int, data: bytes) -> str:
    """What is wrong with the atom under this key; "" for nothing. Columns are not decoded."""
    try:
        header = read_header(data)
    except WireError as error:
        return str(error)
    found = [(atom.first, atom.count, int(header.priority)) for atom in header.atoms]
    named = (first_of(atom_id), count, priority_of(atom_id))
    if found != [named]:
        return f"its key says Seq, count, class {named}, its bytes {found[:3]}"
    return ""
