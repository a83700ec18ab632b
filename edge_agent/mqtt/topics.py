"""Topic names and topic filters: MQTT 5 section 4.7, the same in 3.1.1."""

from __future__ import annotations

TOPIC_BYTES_MAX = 65_535


def filter_problem(text: str) -> str:
    """What is wrong with a topic filter, or "" when it is good."""
    if not text or len(text.encode()) > TOPIC_BYTES_MAX or "\0" in text:
        return f"must be 1 to {TOPIC_BYTES_MAX} bytes of text"
    levels = text.split("/")
    if levels[0] == "$share":
        return "is a shared subscription: the broker would give some messages to others"
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        return 'may hold "#" only as its whole last level, as in "plant/#"'
    if any("+" in level and level != "+" for level in levels):
        return 'may hold "+" only as a whole level, as in "plant/+/state"'
    return ""


def matches(pattern: str, topic: str) -> bool:
    """Whether a message with this topic name belongs to the filter. `#` takes its parent too."""
    wanted, given = pattern.split("/"), topic.split("/")
    if given[0].startswith("$") and wanted[0] in ("+", "#"):
        return False
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at == len(given) or level not in ("+", given[at]):
            return False
    return len(wanted) == len(given)


def overlap(one: str, other: str) -> bool:
    """Whether some topic belongs to both filters: a broker may then deliver its messages once for each."""
    first, second = one.split("/"), other.split("/")
    for name, pattern in ((first[0], second[0]), (second[0], first[0])):
        if name.startswith("$") and pattern in ("+", "#"):
            return False
    for at in range(max(len(first), len(second))):
        a = first[at] if at < len(first) else None
        b = second[at] if at < len(second) else None
        if "#" in (a, b):
            return True
        if a is None or b is None or (a != b and "+" not in (a, b)):
            return False
    return True


def level(text: str) -> str:
    """A text as one level of a topic name: what MQTT reserves becomes `_`."""
    return "".join("_" if letter in "/+#\0" else letter for letter in text)
