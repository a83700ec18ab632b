"""`edge-agent`, as people and systemd start it.

`run` alone, or with the file as one option, needs no command line's library, and an agent at work then does not hold
it (1.6 MB). All else is `edge_agent.cli`, which knows `run` too, with its help and its errors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.commands.place import FILE, VARIABLE


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    file = file_to_run(sys.argv[1:])
    if file is None:
        from edge_agent.cli import main as command_line

        command_line(prog_name="edge-agent")
    else:
        try:
            from edge_agent.commands.run import run_agent

            sys.exit(run_agent(file))
        except KeyboardInterrupt:  # before the agent has its handlers
            sys.exit("Aborted!")


def file_to_run(words: Sequence[str]) -> Path | None:
    """The configuration that a plain `run [-c FILE]` names; None for all that the command line should look at."""
    if words[:1] != ["run"] or len(words) not in (1, 3) or words[1:2] not in ([], ["-c"], ["--config"]):
        return None
    file = Path(words[2] if len(words) == 3 else os.environ.get(VARIABLE) or FILE)
    return None if file.is_dir() else file


if __name__ == "__main__":
    main()
