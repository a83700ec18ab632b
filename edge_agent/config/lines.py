"""Where each key of a TOML file stands: tomllib gives values without lines, people need lines.

The text is known to be valid TOML (tomllib has read it); the scanner only follows its structure. TOML 1.0.0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]

_BARE_END = frozenset(",]}#\n")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every table, key, inline key and array element; `("sensor", 0, "address")` → 7."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Line of the path, or of its nearest known parent; 1 when nothing of it is known."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._line_starts = [0] + [i + 1 for i, char in enumerate(text) if char == "\n"]
        self._array_tables: dict[KeyPath, int] = {}  # path → index of its last element

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip(" \t\r\n"):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _mark(self, path: KeyPath) -> None:
        self.lines.setdefault(path, bisect_right(self._line_starts, self.at))

    def _skip(self, blanks: str) -> bool:
        """Past blanks and comments; False at the end of the text."""
        text = self.text
        while self.at < len(text):
            if text[self.at] in blanks:
                self.at += 1
            elif text[self.at] == "#":
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            else:
                return True
        return False

    def _header(self) -> KeyPath:
        is_array = self.text.startswith("[[", self.at)
        start = self.at
        self.at += 2 if is_array else 1
        parts = self._key()
        self.at += 2 if is_array else 1
        path: KeyPath = ()
        for place, part in enumerate(parts):
            path = (*path, part)
            if is_array and place == len(parts) - 1:
                self._array_tables[path] = self._array_tables.get(path, -1) + 1
            if path in self._array_tables:
                path = (*path, self._array_tables[path])
        after, self.at = self.at, start
        self._mark(path)
        self.at = after
        return path

    def _pair(self, table: KeyPath) -> None:
        start = self.at
        path = table
        parts = self._key()
        after, self.at = self.at, start
        for part in parts:
            path = (*path, part)
            self._mark(path)
        self.at = after + 1  # past "="
        self._value(path)

    def _key(self) -> list[str]:
        """A dotted key, up to the "=" or "]" after it."""
        parts: list[str] = []
        while True:
            self._skip(" \t")
            char = self.text[self.at]
            if char in "\"'":
                parts.append(self._string())
            elif char == ".":
                self.at += 1
            elif char in "=]":
                return parts
            else:
                start = self.at
                while self.text[self.at] not in " \t.=]":
                    self.at += 1
                parts.append(self.text[start : self.at])

    def _value(self, path: KeyPath) -> None:
        self._skip(" \t")
        char = self.text[self.at]
        if char in "\"'":
            self._string()
        elif char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        else:
            while self.at < len(self.text) and self.text[self.at] not in _BARE_END:
                self.at += 1

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while self._skip(" \t\r\n,") and self.text[self.at] != "]":
            self._mark((*path, index))
            self._value((*path, index))
            index += 1
        self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while self._skip(" \t\r\n,") and self.text[self.at] != "}":
            self._pair(path)
        self.at += 1

    def _string(self) -> str:
        quote = self.text[self.at]
        fence = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.at += len(fence)
        start = self.at
        while not self.text.startswith(fence, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        if len(fence) == 3:  # up to two quotes may stand before the closing three
            while self.text.startswith(quote, self.at + 3):
                self.at += 1
        content = self.text[start : self.at]
        self.at += len(fence)
        return content
