"""Where models lie: `<folder>/<name>/<version>/`, Triton's layout. The first folder that has a name wins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_agent.detect.errors import ModelRefused

MODELS = "models"  # in the state directory: what was installed over the air
FOLDERS = (
    Path("/var/lib/edge-agent/models"),
    Path("/usr/share/edge-agent/models"),
    Path(__file__).resolve().parents[2] / "models",  # a checkout
)


def folders_for(folder: str, state_dir: Path) -> Sequence[Path]:
    """Where the model of a [[model]] table is looked for: in its own `folder`, or where models are installed."""
    return (Path(folder),) if folder else (state_dir / MODELS, *FOLDERS)


def model_folders(folders: Sequence[Path] = FOLDERS) -> dict[str, Path]:
    """`name/version` → its folder, newest version of a name last."""
    found: dict[str, Path] = {}
    names: set[str] = set()
    for folder in folders:
        here = [path.parent for path in folder.glob("*/*/model.json") if path.parent.parent.name not in names]
        for path in sorted(here, key=lambda path: (path.parent.name, _number(path.name))):
            found[f"{path.parent.name}/{path.name}"] = path
        names |= {path.parent.name for path in here}
    return found


def find_model(name: str, folders: Sequence[Path] = FOLDERS) -> Path:
    """The folder of `name/version`, or of a name's newest version. Raises ModelRefused when there is none."""
    found = model_folders(folders)
    if name in found:
        return found[name]
    versions = [path for title, path in found.items() if title.partition("/")[0] == name]
    if versions:
        return versions[-1]
    known = ", ".join(found) or "none"
    raise ModelRefused(f"model {name!r} is not in {', '.join(map(str, folders))} (there: {known})")


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1
