"""Man pages and shell completion, made from the commands themselves so that they cannot differ from them.

Usage: python packaging/deb/manuals.py COMMAND MODULE VERSION TREE, with MODULE and click on the path.
"""

from __future__ import annotations

import gzip
import sys
from importlib import import_module
from pathlib import Path

import click
from click.shell_completion import get_completion_class


def write_manuals(command: str, module: str, version: str, tree: Path) -> None:
    """One page per command and sub-command in /usr/share/man/man1, and completion for bash, zsh and fish."""
    main = import_module(module).main
    folder = tree / "usr/share/man/man1"
    folder.mkdir(parents=True, exist_ok=True)
    _write_pages(main, command, version, folder)
    places = {
        "bash": f"usr/share/bash-completion/completions/{command}",
        "zsh": f"usr/share/zsh/vendor-completions/_{command}",
        "fish": f"usr/share/fish/vendor_completions.d/{command}.fish",
    }
    variable = f"_{command.upper().replace('-', '_')}_COMPLETE"
    for shell, place in places.items():
        completion = get_completion_class(shell)
        assert completion is not None
        path = tree / place
        path.parent.mkdir(parents=True, exist_ok=True)
        maker = completion(main, {}, command, variable)
        path.write_text(maker.source_template % maker.source_vars(), encoding="utf-8")


def _write_pages(command: click.Command, path: str, version: str, folder: Path) -> None:
    page = _page(command, path, version).encode()
    name = path.replace(" ", "-")
    (folder / f"{name}.1.gz").write_bytes(gzip.compress(page, 9, mtime=0))
    if isinstance(command, click.Group):
        for child, each in sorted(command.commands.items()):
            _write_pages(each, f"{path} {child}", version, folder)


def _page(command: click.Command, path: str, version: str) -> str:
    """One page in man(7) macros."""
    program = path.split(maxsplit=1)[0]
    name = path.replace(" ", "-")
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{name.upper()}" 1 "" "{program} {version}" "Tidegate"',
        ".SH NAME",
        f"{_plain(name)} \\- {_plain(_first_sentence(command))}",
        ".SH SYNOPSIS",
        f".B {_plain(path)}",
        _plain(usage),
        ".SH DESCRIPTION",
    ]
    for paragraph in (command.help or "").strip().split("\n\n"):
        lines += [_plain(" ".join(paragraph.split())), ".PP"]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        lines.append(".SH OPTIONS")
        for option in options:
            record = option.get_help_record(context)
            if record is not None:
                lines += [".TP", f"\\fB{_plain(record[0])}\\fR", _plain(record[1])]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for child, each in sorted(command.commands.items()):
            lines += [".TP", f"\\fB{_plain(f'{path}-{child}'.replace(' ', '-'))}\\fR(1)", _plain(_first_sentence(each))]
    return "\n".join(lines) + "\n"


def _first_sentence(command: click.Command) -> str:
    return command.get_short_help_str(limit=200).rstrip(".")


def _plain(text: str) -> str:
    """Escape what roff(7) would take for its own."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    _, *words, folder = sys.argv
    write_manuals(words[0], words[1], words[2], Path(folder))
