"""What a pack file holds, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloud_sync.errors import ConfigInvalid, PackCorrupt
from cloud_sync.storage.pack import decode_pack
from wire.codec import read_header
from wire.errors import WireError


def pack_document(path: Path) -> dict[str, Any]:
    """The pack's head and one line per message. Raises ConfigInvalid, PackCorrupt."""
    try:
        pack = decode_pack(path.read_bytes())
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}") from error
    except PackCorrupt as error:
        raise PackCorrupt(f"{path}: {error}") from error
    messages = []
    for record in pack.records:
        line: dict[str, Any] = {
            "gateway": record.gateway,
            "epoch": f"{record.epoch:016x}",
            "bytes": len(record.segment),
        }
        try:
            header = read_header(record.segment)
            ends = [header.atoms[0].first, header.atoms[-1].end] if header.atoms else []
            messages.append({**line, "cells": header.count, "seq": ends, "error": None})
        except WireError as error:
            messages.append({**line, "cells": 0, "seq": [], "error": str(error)})
    return {"pack_id": pack.pack_id, "generation": f"{pack.generation:016x}", "messages": messages}


def pack_table(document: dict[str, Any]) -> str:
    """Plain text."""
    lines = [f"pack {document['pack_id']} generation {document['generation']} messages {len(document['messages'])}"]
    for m in document["messages"]:
        seq = "..".join(str(n) for n in m["seq"])
        lines.append(f"{m['gateway']:<24} {m['epoch']} {m['bytes']:>8} B {m['cells']:>8} cells  {m['error'] or seq}")
    return "\n".join(lines)
