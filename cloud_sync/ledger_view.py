"""The ledger of one gateway for people and for programs."""

from __future__ import annotations

from typing import Any

from cloud_sync.data_folder import DataFolder
from cloud_sync.errors import ConfigInvalid
from wire.clock import Clock

COUNTS = ("taken", "stored", "tombstoned", "pending", "losses_without_seq")


def ledger_document(folder: DataFolder, gateway: str, clock: Clock) -> dict[str, Any]:
    """Per epoch, oldest first, and in sum. Raises ConfigInvalid for a gateway that has never connected."""
    folder.require_initialised()
    catalog = folder.open_catalog(clock)
    try:
        if catalog.gateway(gateway) is None:
            known = ", ".join(row.id for row in catalog.gateways()[:10]) or "none yet"
            raise ConfigInvalid(f"no gateway {gateway!r} has ever connected; those that have: {known}")
        lines = catalog.ledger(gateway)
    finally:
        catalog.close()
    epochs = [
        {
            "epoch": f"{line.epoch:016x}",
            "predecessor": f"{line.predecessor:016x}" if line.predecessor else None,
            **{name: getattr(line, name) for name in COUNTS},
            "offset_us": line.anchor.offset_us if line.anchor else None,
            "synchronised": line.anchor.synchronised if line.anchor else None,
            "tombstones": [
                {"first": t.first, "end": t.end, "reason": t.reason.name.lower(), "count": t.count}
                for t in line.tombstones
            ],
        }
        for line in lines
    ]
    return {
        "gateway": gateway,
        **{name: sum(getattr(line, name) for line in lines) for name in COUNTS},
        "epochs": epochs,
    }


def ledger_table(document: dict[str, Any]) -> str:
    """Plain text."""
    head = f"{'epoch':<18}" + "".join(f"{name.replace('losses_without_seq', 'lost'):>12}" for name in COUNTS)
    rows = [f"{e['epoch']:<18}" + "".join(f"{e[name]:>12}" for name in COUNTS) for e in document["epochs"]]
    total = f"{'all':<18}" + "".join(f"{document[name]:>12}" for name in COUNTS)
    losses = [
        f"  {e['epoch']} {t['reason']}: {t['count']} at {t['first']}..{t['end']}"
        for e in document["epochs"]
        for t in e["tombstones"]
    ]
    return "\n".join([head, *rows, total, *(["given up or lost:", *losses] if losses else [])])
