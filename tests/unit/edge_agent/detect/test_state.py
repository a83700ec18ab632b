"""State as bytes: what was saved comes back bit by bit, changes are small, damage is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.detect import state
from edge_agent.detect.errors import StateRefused
from edge_agent.detect.state import Arrays, StateLog, read_state
from edge_agent.outbox.slots import SMALL_STEP


def arrays() -> Arrays:
    return {
        "ring": np.full((4, 64), 1e30, np.float32),
        "stamp": np.array([5], np.int64),
        "mean": np.full((4, 1), np.nan),
    }


def store(slots: dict[str, bytes], log: StateLog, now: Arrays) -> int:
    """Apply one commit; how many bytes it wrote."""
    change = log.changes(now)
    if change is None:
        return 0
    for name in change.delete:
        slots.pop(name, None)
    slots.update(change.put)
    return sum(map(len, change.put.values()))


def same(slots: dict[str, bytes], now: Arrays) -> bool:
    found = read_state(slots).arrays
    return found.keys() == now.keys() and all(
        found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes() for name, array in now.items()
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 63), st.floats(width=32)), max_size=60))
@settings(max_examples=60, deadline=None)
def test_what_was_saved_comes_back(writes: list[tuple[int, int, float]]) -> None:
    now, log, slots = arrays(), StateLog("k", "m", 1, "abcd"), dict[str, bytes]()
    store(slots, log, now)
    for row, place, number in writes:
        now["ring"][row, place] = number
        now["stamp"] += 1
        store(slots, log, now)
        assert same(slots, now)


def test_a_change_is_small_and_nothing_is_nothing() -> None:
    now, log, slots = arrays(), StateLog("k", "m", 1, "abcd"), dict[str, bytes]()
    now["ring"][:] = np.random.default_rng(1).normal(size=(4, 64))
    whole = store(slots, log, now)
    assert store(slots, log, now) == 0
    now["ring"][2, 7] = 3.5
    assert 0 < store(slots, log, now) <= SMALL_STEP < whole


def test_changes_are_folded_into_a_new_image() -> None:
    now, log, slots = arrays(), StateLog("k", "m", 1, "abcd"), dict[str, bytes]()
    most = 0
    for step in range(500):
        now["ring"][step % 4, step % 64] = step
        store(slots, log, now)
        most = max(most, len(slots))
        assert set(slots) == {f"k/{number:04d}" for number in range(len(slots))}
    assert 3 < most < 100  # slots are used again
    assert same(slots, now)


def test_a_commit_that_failed_is_followed_by_an_image() -> None:
    now, log, slots = arrays(), StateLog("k", "m", 1, "abcd"), dict[str, bytes]()
    for step in range(5):
        now["stamp"][0] = step
        store(slots, log, now)
    now["stamp"][0] = 77
    log.changes(now)  # this one is lost
    log.again()
    lost_image = log.changes(now)  # and so is the image after it
    assert lost_image is not None
    log.again()
    now["stamp"][0] = 78
    store(slots, log, now)
    assert same(slots, now)  # although the changes of the image before it still stand there
    now["stamp"][0] = 79
    store(slots, log, now)
    assert same(slots, now)


def test_an_image_like_an_earlier_one_does_not_take_up_its_changes() -> None:
    now, log, slots = arrays(), StateLog("k", "m", 1, "abcd"), dict[str, bytes]()
    store(slots, log, now)
    now["stamp"][0] = 77
    store(slots, log, now)
    log.again()
    now["stamp"][0] = 5
    store(slots, log, now)
    assert same(slots, now)


def test_slots_keep_their_size() -> None:
    """SQLite writes only what differs of a row that keeps its size."""
    now, log, chance = arrays(), StateLog("k", "m", 1, "abcd"), np.random.default_rng(1)
    sizes: dict[str, list[int]] = {}
    for turn in range(60):
        cells = (60, 3, 100, 1, 30, 200, 8)[turn % 7]
        now["ring"].reshape(-1)[chance.choice(256, cells, replace=False)] = chance.normal(size=cells)
        change = log.changes(now)
        assert change is not None
        assert not change.delete
        for name, blob in change.put.items():
            sizes.setdefault(name, []).append(len(blob))
    assert min(map(len, sizes.values())) > 1
    assert all(found == sorted(found) for found in sizes.values())


def test_one_large_change_makes_no_other_one_heavy() -> None:
    """Nor does what a slot is padded with call for a new image."""
    now, log, slots = arrays(), StateLog("k", "m", 1, "abcd"), dict[str, bytes]()
    now["ring"][:] = np.random.default_rng(1).normal(size=(4, 64))
    image = store(slots, log, now)
    now["ring"][:2] += 1.0
    assert store(slots, log, now) > image // 4
    for step in range(20):
        now["ring"][3, step] = step
        assert store(slots, log, now) <= SMALL_STEP
    assert len(slots) == 22


def test_what_a_slot_held_stays_behind_what_it_holds() -> None:
    """Zeros in its place would be pages to write."""
    now, log = arrays(), StateLog("k", "m", 1, "abcd")
    now["ring"][:] = np.random.default_rng(1).normal(size=(4, 64))
    whole = log.changes(now)
    assert whole is not None
    log.again()
    now["ring"][:] = 0.0
    small = log.changes(now)
    assert small is not None
    assert len(small.put["k/0000"]) == len(whole.put["k/0000"])
    assert small.put["k/0000"][600:800] == whole.put["k/0000"][600:800]
    assert any(small.put["k/0000"][600:800])
    assert same(small.put, now)


def saved() -> dict[str, bytes]:
    now, log, slots = arrays(), StateLog("k", "m", 1, "abcd"), dict[str, bytes]()
    for step in range(4):
        now["ring"][1, step] = step
        store(slots, log, now)
    return slots


SLOTS = saved()


@given(st.sampled_from(sorted(SLOTS)), st.integers(0, 1000), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_damage_is_refused(name: str, at: int, flip: int) -> None:
    blob = bytearray(SLOTS[name])
    blob[at % len(blob)] ^= flip
    with pytest.raises(StateRefused):
        read_state({**SLOTS, name: bytes(blob)})


def test_a_missing_or_foreign_change_is_refused() -> None:
    with pytest.raises(StateRefused, match="nothing is saved"):
        read_state({})
    with pytest.raises(StateRefused, match="change 2 of image"):
        read_state({name: blob for name, blob in SLOTS.items() if name != "k/0001"})
    with pytest.raises(StateRefused, match="damaged"):
        read_state({name: blob for name, blob in SLOTS.items() if name != "k/0000"})


def test_an_image_is_bounded_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "IMAGE_BYTES_MAX", 100)
    with pytest.raises(StateRefused, match="at most 100 are allowed"):
        read_state(SLOTS)
