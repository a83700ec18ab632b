"""The ledger of one gateway or of the fleet, for people and for programs."""

from __future__ import annotations

from typing import Any

from cloud_sync.catalog.catalog import Account, Catalog, EpochEnd, EpochLedger, MachineRow
from cloud_sync.errors import ConfigInvalid

COUNTS = ("taken", "stored", "tombstoned", "pending", "gap", "losses_without_seq")
_HEADS = {"tombstoned": "given up", "losses_without_seq": "lost"}
_HEAD = "".join(f"{_HEADS.get(name, name):>12}" for name in COUNTS)


def ledger_document(catalog: Catalog, gateway: str) -> dict[str, Any]:
    """Per epoch, oldest first, and in sum. Raises ConfigInvalid for a gateway that has never connected."""
    account = catalog.accounts(gateway).get(gateway)
    if account is None:
        known = ", ".join(row.id for row in catalog.gateways()[:10]) or "none yet"
        raise ConfigInvalid(f"no gateway {gateway!r} has ever connected; those that have: {known}")
    machines = catalog.machines(gateway)
    return {
        **_sums(account),
        "machines": [_machine(machine) for machine in machines],
        "epochs": [_epoch(line) for line in catalog.ledger(gateway)],
    }


def fleet_document(catalog: Catalog) -> dict[str, Any]:
    """One line a gateway, and the fleet in sum."""
    accounts = list(catalog.accounts().values())
    return {
        **{name: sum(getattr(each, name) for each in accounts) for name in (*COUNTS, "lost")},
        "gateways": [_sums(each) for each in accounts],
    }


def _sums(account: Account) -> dict[str, Any]:
    sums = {name: getattr(account, name) for name in (*COUNTS, "lost")}
    return {"gateway": account.gateway, **sums, "cloned": account.is_cloned}


def _machine(machine: MachineRow) -> dict[str, Any]:
    return {
        "machine": machine.machine.hex(),
        "epoch": f"{machine.epoch:016x}",
        "first_seen_us": machine.first_seen_us,
        "last_seen_us": machine.last_seen_us,
        "retired": machine.retired,
    }


def _epoch(line: EpochLedger) -> dict[str, Any]:
    return {
        "epoch": f"{line.epoch:016x}",
        "predecessor": f"{line.predecessor:016x}" if line.predecessor else None,
        "predecessor_next_seq": line.predecessor_next_seq,
        "end": line.end.value,
        **{name: getattr(line, name) for name in COUNTS},
        "offset_us": line.anchor.offset_us if line.anchor else None,
        "synchronised": line.anchor.synchronised if line.anchor else None,
        "gaps": [{"first": g.first, "end": g.end, "count": g.count, "since_us": g.since_us} for g in line.gaps],
        "tombstones": [
            {"first": t.first, "end": t.end, "reason": t.reason.name.lower(), "count": t.count} for t in line.tombstones
        ],
    }


def ledger_table(document: dict[str, Any]) -> str:
    """Plain text."""
    epochs = document["epochs"]
    out = [f"{'epoch':<18}{'after':<18}{_HEAD}  end"]
    out += [f"{e['epoch']:<18}{e['predecessor'] or '-':<18}{_counts(e)}  {e['end']}" for e in epochs]
    out.append(f"{'all':<36}{_counts(document)}")
    losses = [
        f"  {e['epoch']} {t['reason']}: {t['count']} at {t['first']}..{t['end']}"
        for e in epochs
        for t in e["tombstones"]
    ]
    gaps = [f"  {e['epoch']} {g['count']} at {g['first']}..{g['end']}" for e in epochs for g in e["gaps"]]
    open_ended = [e["epoch"] for e in epochs if e["end"] == EpochEnd.UNKNOWN.value]
    if losses:
        out += ["given up or lost:", *losses]
    if gaps:
        out += ["gap: neither here, nor offered, nor given up by the gateway's latest Hello:", *gaps]
    if open_ended:
        out += ["end unknown: after these the gateway may have taken readings that no record tells of:"]
        out += [f"  {epoch}" for epoch in open_ended]
    return "\n".join([*out, *_clone_words(document)])


def fleet_table(document: dict[str, Any]) -> str:
    """Plain text."""
    rows = [
        f"{each['gateway']:<24}{_counts(each)}{'  CLONED: two machines, one certificate' if each['cloned'] else ''}"
        for each in document["gateways"]
    ]
    return "\n".join([f"{'gateway':<24}{_HEAD}", *rows, f"{'all':<24}{_counts(document)}"])


def machines_table(document: dict[str, Any]) -> str:
    """Plain text."""
    rows = [
        f"{each['machine']:<34}{each['epoch']:<18}{'retired' if each['retired'] else 'in use'}"
        for each in document["machines"]
    ]
    return "\n".join([f"{'machine':<34}{'current epoch':<18}state", *rows, *_clone_words(document)])


def _clone_words(document: dict[str, Any]) -> list[str]:
    if not document["cloned"]:
        return []
    return [
        "CLONED: two machines use this gateway's certificate. Give one of them another; for one that will not come "
        f"back: cloud-sync machine retire {document['gateway']} MACHINE"
    ]


def _counts(row: dict[str, Any]) -> str:
    return "".join(f"{row[name]:>12}" for name in COUNTS)
