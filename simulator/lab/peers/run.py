"""Trials with other agents, by name."""

from __future__ import annotations

import asyncio
from pathlib import Path

from simulator.lab.outcome import TrialResult
from simulator.lab.peers import mosquitto, thingsboard
from simulator.lab.peers.mqtt_stub import MqttStub
from simulator.lab.peers.peer import Peer, PeerTrial, storage

NAMES = ("thingsboard", "mosquitto")


def prepare(name: str, folder: Path) -> None:
    """Install what the peer needs, once per order. Raises LabFailed."""
    if name == "thingsboard":
        thingsboard.install(folder)


def describe(name: str) -> str:
    """Version and settings, for the record."""
    if name == "thingsboard":
        return f"thingsboard-gateway {thingsboard.VERSION}: {thingsboard.SETTINGS}"
    return f"mosquitto {mosquitto.version()}: {mosquitto.SETTINGS}"


def run_peer(name: str, seed: int, folder: Path, bench: Path, *, has_card: bool, calm: bool = False) -> TrialResult:
    """One trial in a folder of its own, which is made; `bench` is what `prepare` was given. `calm`: without faults."""
    folder.mkdir(parents=True)
    return asyncio.run(_run(name, seed, folder, bench, has_card=has_card, calm=calm))


async def _run(name: str, seed: int, folder: Path, bench: Path, *, has_card: bool, calm: bool) -> TrialResult:
    card = storage(folder, has_card=has_card)
    try:
        return await PeerTrial(seed, await _make(name, folder, bench), card, calm=calm).run()
    finally:
        if card is not None:
            card.remove()


async def _make(name: str, folder: Path, bench: Path) -> Peer:
    if name == "mosquitto":
        return mosquitto.MosquittoPeer(folder)
    source = MqttStub()
    await source.start()
    return thingsboard.ThingsboardPeer(folder, thingsboard.python_of(bench), source)
