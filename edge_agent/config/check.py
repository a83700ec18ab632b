"""One table of the file against one struct, key by key, so that every mistake is reported and not only the first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from edge_agent.config.lines import KeyPath, line_of
from edge_agent.config.values import nearest, parse_duration, parse_size, show_duration, show_size

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file something stands."""

    file: Path
    lines: Mapping[KeyPath, int]
    path: KeyPath = ()

    def at(self, *keys: str | int) -> Place:
        """A place further in."""
        return Place(self.file, self.lines, (*self.path, *keys))

    @property
    def line(self) -> int:
        """From 1."""
        return line_of(self.lines, self.path)

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value and its place."""

    value: Any
    place: Place


Table = dict[str, Entry]


def table_of(values: Mapping[str, Any], place: Place) -> Table:
    """The entries of a table that stands in one file."""
    return {key: Entry(value, place.at(key)) for key, value in values.items()}


@dataclass(slots=True)
class Problems:
    """All that is wrong, in the order of the files and lines."""

    _found: list[tuple[str, int, str]] = field(default_factory=list)

    def add(self, place: Place, where: str, text: str) -> None:
        """`where` names the table for people: `[cloud]`, `sensor "climate"`."""
        self._found.append((str(place.file), place.line, f"{place} {where}: {text}"))

    def add_plain(self, file: Path, line: int, text: str) -> None:
        """A problem of a file as a whole."""
        self._found.append((str(file), line, text))

    def __len__(self) -> int:
        return len(self._found)

    def lines(self) -> list[str]:
        """One line each; conf.d files after the main one by name."""
        return [text for _, _, text in sorted(self._found, key=lambda found: (found[0].count("/"), *found[:2]))]


class Unfit(Exception):
    """A value that does not fit its field; the message follows `key = value`."""


def check_table(struct: type[T], table: Table, place: Place, where: str, problems: Problems) -> T | None:
    """The struct; every mistake was added to `problems`, and a key that is wrong has its default then.

    None when a required key is missing or wrong. `place` is where a missing key is reported.
    """
    fields = {info.encode_name: info for info in msgspec.structs.fields(struct)}
    before = len(problems)
    check_keys(table, fields, where, problems)
    values: dict[str, Any] = {}
    for name, info in fields.items():
        if name not in table:
            if info.required:
                problems.add(place, where, f'"{name}" is missing')
            continue
        entry = table[name]
        row = _row_struct(info.type)
        if row and isinstance(entry.value, list) and all(isinstance(item, dict) for item in entry.value):
            spots = [entry.place.at(index) for index in range(len(entry.value))]
            rows = [
                check_table(row, table_of(item, spot), spot, f"{where} {name}", problems)
                for item, spot in zip(entry.value, spots)
            ]
            if None not in rows:
                values[info.name] = tuple(rows)
            continue
        try:
            values[info.name] = fit(info.type, entry.value, entry.place.file.parent)
        except Unfit as unfit:
            problems.add(entry.place, where, f"{name} = {show(entry.value)} {unfit}")
    try:
        return struct(**values)
    except (ValueError, TypeError) as error:  # a required key, or a struct's own rule between its fields
        if len(problems) == before:
            problems.add(place, where, str(error))
        return None


def check_keys(table: Table, known: Collection[str], where: str, problems: Problems) -> None:
    """Report every key that is not known, with the nearest one."""
    for key, entry in table.items():
        if key not in known:
            problems.add(entry.place, where, f'unknown key "{key}"{nearest(key, known)}')


def fit(kind: Any, value: Any, folder: Path) -> Any:
    """The value as the field's type. Raises `Unfit`. Relative paths are taken from `folder`."""
    meta, plain = _split(kind)
    extra = (meta.extra or {}) if meta else {}
    unit = extra.get("kind")
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if unit in ("duration", "size"):
        return _fit_quantity(value, meta, unit)
    choices = get_args(plain) if get_origin(plain) is Literal else ()
    if choices:
        if value not in choices or isinstance(value, bool) != isinstance(choices[0], bool):
            raise Unfit(_explain_choice(value, choices))
        return value
    try:
        fitted = msgspec.convert(value, Annotated[plain, meta] if meta else plain)
    except msgspec.ValidationError as error:
        raise Unfit(_explain(str(error), meta, extra)) from error
    if unit == "path":
        return str(folder / fitted)
    return fitted


def written(kind: Any, value: Any) -> Any:
    """The inverse of `fit`: durations and sizes as they are written in TOML, all else as plain values."""
    meta, _ = _split(kind)
    unit = (meta.extra or {}).get("kind") if meta else None
    if unit == "duration" and value is not None:
        return show_duration(value)
    if unit == "size" and value is not None:
        return f"{value} B"
    return msgspec.to_builtins(value)


def show(value: Any) -> str:
    """A value as it would stand in TOML, cut to a line."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, dict):
        text = "{ " + ", ".join(f"{key} = {show(item)}" for key, item in value.items()) + " }"
    else:
        text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _split(kind: Any) -> tuple[msgspec.Meta | None, Any]:
    """`Annotated[float, Meta] | None` → (Meta, float); TOML has no null, so None is only a default."""
    if get_origin(kind) in (Union, UnionType):
        rest = [part for part in get_args(kind) if part is not NoneType]
        if len(rest) == 1:
            kind = rest[0]
    if get_origin(kind) is Annotated:
        plain, *notes = get_args(kind)
        meta = next((note for note in notes if isinstance(note, msgspec.Meta)), None)
        return meta, plain
    return None, kind


def _row_struct(kind: Any) -> type[msgspec.Struct] | None:
    """X of `tuple[X, ...]` or `list[X]` where X is a struct: an array of tables, each checked by itself."""
    _, plain = _split(kind)
    if get_origin(plain) in (tuple, list):
        item = get_args(plain)[0]
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            return item
    return None


def _fit_quantity(value: Any, meta: msgspec.Meta | None, unit: str) -> float:
    parse, shown = (parse_duration, show_duration) if unit == "duration" else (parse_size, show_size)
    try:
        number = parse(value)
    except ValueError as error:
        raise Unfit(str(error)) from error
    if meta and meta.ge is not None and number < meta.ge:
        raise Unfit(f"is below the least, {shown(meta.ge)}")
    if meta and meta.le is not None and number > meta.le:
        raise Unfit(f"is above the most, {shown(meta.le)}")
    return number


def _explain_choice(value: Any, choices: tuple[Any, ...]) -> str:
    if isinstance(value, str):
        words = [choice for choice in choices if isinstance(choice, str)]
        if len(words) == 1:
            return f"must be {show(words[0])}"
        return f"is not one of {', '.join(show(word) for word in words)}{nearest(value, words) if words else ''}"
    if isinstance(value, int) and all(isinstance(choice, int) for choice in choices):
        return f"({value:#x}) is not one of {', '.join(f'{choice:#x}' for choice in choices)}"
    return f"is not one of {', '.join(show(choice) for choice in choices)}"


def _explain(message: str, meta: msgspec.Meta | None, extra: Mapping[str, Any]) -> str:
    if "matching regex" in message and "rule" in extra:
        return f"must be {extra['rule']}"
    message = message.replace("`", "").replace("Expected ", "must be ").replace(", got", ", not")
    message = message.replace(" - at $[...]", "").replace(" - at $", " at ")
    for python, toml in (("str", "string"), ("int", "integer"), ("float", "number"), ("bool", "true or false")):
        message = f" {message} ".replace(f" {python} ", f" {toml} ").replace(f" {python},", f" {toml},").strip()
    return message
