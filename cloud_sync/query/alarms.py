"""Alarms a page at a time, newest onset first. Every call blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_sync.catalog.catalog import AlarmRow, Catalog
from cloud_sync.errors import QueryInvalid
from cloud_sync.query.parameters import TIME_US_MAX, TIME_US_MIN
from cloud_sync.query.tokens import pack_token, question_id, unpack_token

CHANGES_PER_READ = 5_000  # one alarm has a few; one of more changes than this shows the first of them only
READS_PER_PAGE = 8  # a page that keeps little of what it reads ends early, with a token


@dataclass(frozen=True, slots=True)
class AlarmQuestion:
    """Which alarms: of one gateway or of all (None), with their onset in start <= time < end, wall-clock microseconds.

    `active` leaves out what was cleared. `written` is the range as the caller wrote it, as in `Question`.
    """

    gateway: str | None = None
    start_us: int = TIME_US_MIN
    end_us: int = TIME_US_MAX
    active: bool = False
    written: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    """The last alarm that was looked at."""

    onset_us: int
    id: int
    gateway: str

    def after(self, rows: Sequence[AlarmRow]) -> list[AlarmRow]:
        own = (-self.onset_us, self.id, self.gateway)
        return [row for row in rows if _order(row) > own]


def alarm_page(
    catalog: Catalog, question: AlarmQuestion, page_size: int, page_token: str = ""
) -> tuple[list[AlarmRow], str]:
    """At most `page_size` alarms, and the next page's token ("" on the last). A page may be short, even empty.

    Raises QueryInvalid for a range that is none and for a token of another question; CatalogDown.
    """
    asked = question_id("alarms", question.gateway or "", question.written, str(question.active))
    start_us, end_us, place = question.start_us, question.end_us, None
    if page_token:
        parts = unpack_token("page_token", page_token, asked, int, int, int, int, str)
        start_us, end_us, place = int(parts[0]), int(parts[1]), _Place(int(parts[2]), int(parts[3]), str(parts[4]))
        if not TIME_US_MIN <= start_us <= place.onset_us < end_us <= TIME_US_MAX:
            raise QueryInvalid("page_token points outside its range. Ask without it first")
    if end_us <= start_us:
        raise QueryInvalid(f"end {end_us} us is not after start {start_us} us. A range is start <= time < end")
    page: list[AlarmRow] = []
    for _ in range(READS_PER_PAGE):
        until_us = end_us if place is None else place.onset_us + 1
        found = catalog.alarms(question.gateway, start_us, until_us, CHANGES_PER_READ, question.active)
        rows = sorted(found, key=_order)
        rows = rows if place is None else place.after(rows)
        if not rows:
            return page, ""
        # The last alarm of a read may lack its later changes: it is left to the next read, which begins with it.
        for row in rows if len(rows) == 1 else rows[:-1]:
            if len(page) == page_size:
                return page, _token(asked, start_us, end_us, place)
            place = _Place(row.onset_us, row.alarm.id, row.gateway)
            if row.cleared_us is None or not question.active:
                page.append(row)
    return page, _token(asked, start_us, end_us, place)


def _order(row: AlarmRow) -> tuple[int, int, str]:
    return -row.onset_us, row.alarm.id, row.gateway


def _token(asked: int, start_us: int, end_us: int, place: _Place | None) -> str:
    assert place is not None, "a page without a place has looked at nothing"
    return pack_token(asked, start_us, end_us, place.onset_us, place.id, place.gateway)
