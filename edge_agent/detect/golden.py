"""What a model must show before it is trusted: its golden vectors, and properties that every model has."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_agent.detect.contract import GOLDEN_BYTES_MAX, check_sha256, read_bounded
from edge_agent.detect.errors import ModelRefused, RunFailed
from edge_agent.detect.session import F32, Session

TICKS_MIN = 64
GOLDEN_UNPACKED_MAX = 32 << 20
RTOL, ATOL = 1e-3, 1e-4  # float32 on another processor

Golden = dict[str, F32]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried; `problem` is empty when it held."""

    name: str
    problem: str


def check_model(session: Session) -> list[Check]:
    """Every check, in order; the later ones run even when an earlier one failed."""
    golden: Golden = {}

    def load() -> None:
        golden.update(load_golden(session))

    def needs(check: Callable[[Session, Golden], None]) -> Callable[[], None]:
        def run() -> None:
            if not golden:
                raise ModelRefused("there are no golden vectors to run")
            check(session, golden)

        return run

    checks: dict[str, Callable[[], None]] = {
        "golden file": load,
        "golden vectors": needs(_vectors),
        "one row equals many": needs(_rows),
        "two runs are equal": needs(_twice),
        "no value keeps the state": needs(_masked),
        "extreme input gives finite scores": needs(_extremes),
    }
    return [Check(name, _problem(check)) for name, check in checks.items()]


def load_golden(session: Session) -> Golden:
    """The arrays of golden.npz, bounded before they are unpacked. Raises ModelRefused."""
    model = session.model
    data = read_bounded(model.folder / "golden.npz", GOLDEN_BYTES_MAX)
    check_sha256("golden.npz", data, model.manifest.golden_sha256)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > GOLDEN_UNPACKED_MAX:
            raise ModelRefused(f"golden.npz unpacks to {size} bytes; {GOLDEN_UNPACKED_MAX} are allowed")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            golden = {name: np.asarray(arrays[name], np.float32) for name in arrays.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise ModelRefused(f"golden.npz: {error}") from error
    needed = {"x", "mask", "dt", "score", *(param.name for param in model.manifest.params)}
    needed |= {f"{state.name}_out" for state in model.manifest.state}
    if needed - golden.keys():
        raise ModelRefused(f"golden.npz lacks {min(needed - golden.keys())}")
    if len(golden["x"]) < TICKS_MIN or len({len(golden[name]) for name in ("x", "mask", "dt", "score")}) > 1:
        raise ModelRefused(f"golden.npz has {len(golden['x'])} ticks; {TICKS_MIN} or more, equally many, are needed")
    return golden


def replay(session: Session, golden: Golden, rows: slice = slice(None)) -> tuple[F32, dict[str, F32]]:
    """Run the vectors with carried state, for some rows. Returns scores [ticks,B,1] and the last state."""
    params = {param.name: golden[param.name][rows] for param in session.model.manifest.params}
    state = _fresh(session, golden["x"][:, rows].shape[1])
    scores = []
    for x, mask, dt in zip(golden["x"], golden["mask"], golden["dt"]):
        outputs = session.run({"x": x[rows], "mask": mask[rows], "dt": dt[rows], **params, **state})
        state = {name: outputs[f"{name}_out"] for name in state}
        scores.append(outputs["score"])
    return np.stack(scores), state


def first_tick(session: Session) -> dict[str, F32]:
    """Everything that goes into one run of one row, by the golden vectors. Raises ModelRefused."""
    golden = load_golden(session)
    names = ("x", "mask", "dt")
    params = {param.name: golden[param.name][:1] for param in session.model.manifest.params}
    return {name: golden[name][0][:1] for name in names} | params | _fresh(session, 1)


def _fresh(session: Session, rows: int) -> dict[str, F32]:
    shapes = session.model.state_shapes
    return {
        item.name: np.full((rows, *shapes[item.name]), item.init, np.float32) for item in session.model.manifest.state
    }


def _vectors(session: Session, golden: Golden) -> None:
    scores, state = replay(session, golden)
    _close("score", scores, golden["score"])
    for name, array in state.items():
        _close(name, array, golden[f"{name}_out"])


def _rows(session: Session, golden: Golden) -> None:
    together, _ = replay(session, golden)
    for row in range(golden["x"].shape[1]):
        alone, _ = replay(session, golden, slice(row, row + 1))
        _close(f"score of row {row} alone", alone[:, 0], together[:, row])


def _twice(session: Session, golden: Golden) -> None:
    first, second = replay(session, golden)[0], replay(session, golden)[0]
    if first.tobytes() != second.tobytes():
        raise ModelRefused("two runs over the same vectors differ")


def _masked(session: Session, golden: Golden) -> None:
    rows = golden["x"].shape[1]
    params = {param.name: golden[param.name] for param in session.model.manifest.params}
    _, state = replay(session, golden)
    feeds = {"x": golden["x"][-1], "mask": np.zeros_like(golden["mask"][-1]), "dt": np.ones((rows, 1), np.float32)}
    outputs = session.run({**feeds, **params, **state})
    for name, array in state.items():
        if outputs[f"{name}_out"].tobytes() != array.tobytes():
            raise ModelRefused(f"{name} changes in a tick without a value")


def _extremes(session: Session, golden: Golden) -> None:
    params = {param.name: golden[param.name] for param in session.model.manifest.params}
    for number in (0.0, 1e12, -1e12, 1e-12):
        state = _fresh(session, golden["x"].shape[1])
        for x in (golden["x"][0], np.full_like(golden["x"][0], number), golden["x"][1]):
            feeds = {"x": x, "mask": np.ones_like(x), "dt": golden["dt"][0]}
            outputs = session.run({**feeds, **params, **state})
            state = {name: outputs[f"{name}_out"] for name in state}
            for name in ("score", *(f"{name}_out" for name in state)):
                if not np.isfinite(outputs[name]).all() or (name == "score" and (outputs[name] < 0).any()):
                    raise ModelRefused(f"{name} is not finite, or below 0, after an input of {number:g}")


def _close(name: str, found: F32, expected: F32) -> None:
    if found.shape != expected.shape:
        raise ModelRefused(f"{name} has shape {found.shape}; {expected.shape} is expected")
    wrong = ~np.isclose(found, expected, rtol=RTOL, atol=ATOL)
    if wrong.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
        raise ModelRefused(
            f"{name} at {list(place)} is {found[place]:g}; {expected[place]:g} is expected "
            f"({int(wrong.sum())} of {wrong.size} are off)"
        )


def _problem(check: Callable[[], None]) -> str:
    try:
        check()
    except (ModelRefused, RunFailed) as error:
        return str(error)
    return ""
