"""A group of commands whose modules are imported when a command is asked for: an agent at work needs none of them."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """elsewhere: MODULE:OBJECT by the name of a command, as it is typed."""

    def __init__(self, *arguments: Any, elsewhere: dict[str, str], **settings: Any) -> None:
        self._elsewhere = elsewhere
        super().__init__(*arguments, **settings)

    @property
    def commands(self) -> MutableMapping[str, click.Command]:
        """All of them, imported."""
        for name in self._elsewhere:
            self._load(name)
        return self._here

    @commands.setter
    def commands(self, commands: MutableMapping[str, click.Command]) -> None:
        """Those that are here."""
        self._here = commands

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """One that is here."""
        word = name or cmd.name
        assert word is not None
        self._here[word] = cmd

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported; no other is."""
        return self._load(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names; nothing is imported."""
        return sorted({*self._here, *self._elsewhere})

    def _load(self, name: str) -> click.Command | None:
        if name in self._elsewhere and name not in self._here:
            module, _, found = self._elsewhere[name].partition(":")
            self._here[name] = getattr(import_module(module), found)
        return self._here.get(name)
