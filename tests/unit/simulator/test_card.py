"""A card with an ext4 of its own: what a power cut leaves, whoever else looks at it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.lab.card import Card, no_cards


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Card]:
    (tmp_path / "probe").mkdir()
    if missing := no_cards(tmp_path / "probe"):
        pytest.skip(f"no loop device with ext4: {missing}")
    made = Card(tmp_path / "card.img", tmp_path / "card")
    made.insert()
    yield made
    made.remove()


def write(path: Path, text: str, *, durable: bool) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def test_a_power_cut_leaves_what_was_fsynced(card: Card) -> None:
    write(card.mount_point / "kept", "kept", durable=True)
    write(card.mount_point / "lost", "lost", durable=False)
    for _ in range(2):
        card.cut_power()
        with pytest.raises(OSError, match="Input/output error"):
            write(card.mount_point / "after", "after", durable=False)
        card.power_on()
        assert {path.name for path in card.mount_point.iterdir()} == {"kept", "lost+found"}
        assert (card.mount_point / "kept").read_text(encoding="ascii") == "kept"
    write(card.mount_point / "kept", "again", durable=True)


def test_a_dead_file_system_that_a_mount_namespace_holds_does_not_come_back(card: Card) -> None:
    """`ip netns exec`, containers, sandboxes copy every mount; such a copy kept a card dead after its power was on."""
    write(card.mount_point / "kept", "kept", durable=True)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo made; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "made\n"
            card.cut_power()
            card.power_on()
            assert (card.mount_point / "kept").read_text(encoding="ascii") == "kept"
            write(card.mount_point / "new", "new", durable=True)
        finally:
            holder.kill()
