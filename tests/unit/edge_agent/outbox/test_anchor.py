"""The anchor in force: one object until the clock steps or is set."""

from __future__ import annotations

from edge_agent.outbox.anchor import STEP_US, AnchorKeeper
from tests.unit.edge_agent.outbox.parts import Hands
from wire.clock import NS_PER_US, Anchor, SyncState


def test_the_same_object_while_nothing_happens() -> None:
    clock = Hands()
    keeper = AnchorKeeper(clock)
    first = keeper.anchor()
    assert first == Anchor(clock.boottime // 1000, clock.wall_ns() // 1000, True, 500)
    clock.sleep(3600)
    clock.state = SyncState(True, 16_000)  # the kernel's estimate grows all the time
    clock.offset += STEP_US * NS_PER_US // 2
    assert keeper.anchor() is first


def test_a_step_makes_a_new_one_either_way() -> None:
    for step in (STEP_US + 1, -STEP_US - 1, 86_400_000_000):
        clock = Hands()
        keeper = AnchorKeeper(clock)
        first = keeper.anchor()
        clock.offset += step * NS_PER_US
        second = keeper.anchor()
        assert second is not first
        assert second.offset_us - first.offset_us == step
        assert keeper.anchor() is second


def test_small_moves_add_up_to_a_step() -> None:
    clock = Hands()
    keeper = AnchorKeeper(clock)
    first = keeper.anchor()
    for _ in range(3):
        clock.offset += STEP_US * NS_PER_US * 2 // 5
        last = keeper.anchor()
    assert last is not first


def test_a_sync_change_makes_a_new_one() -> None:
    clock = Hands()
    clock.state = SyncState(False, 0)
    keeper = AnchorKeeper(clock)
    first = keeper.anchor()
    assert not first.synchronised
    clock.state = SyncState(True, 90)
    clock.sleep(1)
    second = keeper.anchor()
    assert (second.synchronised, second.uncertainty_us) == (True, 90)


def test_a_step_asks_for_the_state_too() -> None:
    """The first synchronisation after a boot most often steps the clock: the anchor must say both."""
    clock = Hands()
    clock.state = SyncState(False, 0)
    keeper = AnchorKeeper(clock)
    keeper.anchor()
    clock.state = SyncState(True, 90)
    clock.offset += 10**15
    assert keeper.anchor().synchronised


def test_the_last_process_anchor_is_kept_while_it_holds() -> None:
    clock = Hands()
    first = AnchorKeeper(clock).anchor()
    clock.sleep(60)
    assert AnchorKeeper(clock, first).anchor() is first
    clock.offset += 10**9
    assert AnchorKeeper(clock, first).anchor() is not first


def test_two_reads_that_were_parted_are_no_step() -> None:
    class Busy(Hands):
        """Another process takes the processor between two reads, once."""

        parted = 0

        def wall_ns(self) -> int:
            if self.parted:
                self.parted -= 1
                self.boottime += 50 * STEP_US * NS_PER_US
            return super().wall_ns()

    clock = Busy()
    keeper = AnchorKeeper(clock)
    first = keeper.anchor()
    clock.parted = 1
    assert keeper.anchor() is first
