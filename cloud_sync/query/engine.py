"""Answers questions about one gateway's readings. Every call blocks: asyncio code runs it on a worker thread."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloud_sync.catalog.catalog import Catalog, GatewayRow, MessageRow
from cloud_sync.errors import ObjectMissing, QueryInvalid
from cloud_sync.query.blocks import Slice, slices
from cloud_sync.query.buckets import BucketLine, Buckets
from cloud_sync.query.latest import Latest, Newest
from cloud_sync.query.parameters import (
    MESSAGES_MAX,
    POINTS_MAX,
    STEP_US_MIN,
    TIME_US_MAX,
    TIME_US_MIN,
)
from cloud_sync.query.plan import Line, Plan, known_lines, make_plan
from cloud_sync.query.rows import Place, Rows, read_page
from cloud_sync.query.segment_cache import SegmentCache
from cloud_sync.query.tokens import pack_token, question_id, unpack_token
from cloud_sync.storage.object_store import ObjectStore
from wire.clock import US_PER_S
from wire.errors import SegmentCorrupt, UnsupportedFormat
from wire.reading import SERIES_PER_SET_MAX

log = logging.getLogger(__name__)

CACHE_BYTES = 64 << 20
LATEST_WINDOWS_US = (120 * US_PER_S, 3_600 * US_PER_S, 86_400 * US_PER_S)  # back from when it was last seen
LATEST_AHEAD_US = 3_600 * US_PER_S  # past that a stamp is of a clock that was wrong, and nothing to go by
SAID_MAX = 1000  # packs whose damage is logged
LATEST_MESSAGES_MAX = 500  # per set and window


@dataclass(frozen=True, slots=True)
class Question:
    """Which readings: series of one gateway (none named: all) with start <= time < end, wall-clock microseconds.

    `cursor` leaves out what an earlier answer with that cursor has already told; "" is everything. `written` is the
    range as the caller wrote it (`-1h`): a page token keeps the moments it stood for on the first page.
    """

    gateway: str
    series: tuple[str, ...] = ()
    start_us: int = TIME_US_MIN
    end_us: int = TIME_US_MAX
    cursor: str = ""
    written: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class BucketAnswer:
    """Downsampled lines. `cursor` names all that was known when the answer was made."""

    question: Question
    step_us: int
    lines: list[BucketLine]
    cursor: str
    messages: int
    notices: tuple[str, ...]
    unread: str  # as in `Unread.notice`


@dataclass(frozen=True, slots=True, eq=False)
class RowAnswer:
    """One page of rows; `page_token` is "" on the last. All pages of a question show the same moment of the catalog."""

    question: Question  # with the range that the first page had
    lines: tuple[Line, ...]
    rows: Rows
    page_token: str
    cursor: str
    messages: int
    notices: tuple[str, ...]
    unread: str  # as in `Unread.notice`


class Unread:
    """Messages of an answer that are stored no more, or damaged: each a catalog row without readable bytes."""

    def __init__(self, said: set[str]) -> None:
        """`said`: packs whose damage the log has told."""
        self._said = said
        self._count = 0
        self._first = ""

    def note(self, message: MessageRow, error: Exception) -> None:
        """Leave this message out."""
        self._count += 1
        self._first = self._first or message.pack_key
        if message.pack_key not in self._said and len(self._said) < SAID_MAX:
            self._said.add(message.pack_key)
            log.error("answers lack a message pack=%s offset=%d error=%s", message.pack_key, message.offset, error)

    @property
    def notice(self) -> str:
        """What the answer lacks; "" for nothing."""
        if not self._count:
            return ""
        return f"{self._count} stored messages cannot be read and are left out; the first is in {self._first}."

    def add_to(self, notices: tuple[str, ...]) -> tuple[str, ...]:
        """The notices, and this one."""
        return (*notices, self.notice) if self._count else notices


class QueryEngine:
    """Reads packs through the catalog. Safe to use from several threads.

    Every method raises QueryInvalid for a question out of bounds, CatalogDown and StoreDown (try again). A stored
    message that is gone or damaged is left out, said in the answer, and once per pack in the log.
    """

    def __init__(self, catalog: Catalog, store: ObjectStore, cache_bytes: int = CACHE_BYTES) -> None:
        self._catalog = catalog
        self._said: set[str] = set()
        self.store = store
        self.cache = SegmentCache(store, cache_bytes)

    def series(self, gateway: str) -> list[Line]:
        """Every line the gateway has ever named."""
        return known_lines(self._catalog.series_sets(gateway))

    def buckets(self, question: Question, step_us: int) -> BucketAnswer:
        """Minimum, maximum, mean and count per step. With a cursor, of the new readings only: merge them by count."""
        plan, after = self._open(question)
        if step_us < STEP_US_MIN:
            raise QueryInvalid(f"step {step_us} us is under {STEP_US_MIN} us. Leave step out to get readings as taken")
        points = len(plan.lines) * ((question.end_us - question.start_us) // step_us + 2)
        if points > POINTS_MAX:
            raise QueryInvalid(
                f"{len(plan.lines)} series in steps of {step_us / US_PER_S:g} s over "
                f"{(question.end_us - question.start_us) / US_PER_S:g} s make {points} points; the most is "
                f"{POINTS_MAX}. Take a larger step, a shorter range or fewer series"
            )
        messages = self._messages(question, plan, question.start_us, after)
        if len(messages) > MESSAGES_MAX:
            raise QueryInvalid(
                f"The range holds {len(messages)} messages; the most for one query is {MESSAGES_MAX}. "
                "Take a shorter range, or page through readings without step"
            )
        unread = Unread(self._said)
        buckets = Buckets(len(plan.lines), question.start_us, question.end_us, step_us)
        for message in messages:
            for part in self._slices(message, plan, question.start_us, question.end_us, unread):
                buckets.add(part)
        newest = max((message.id for message in messages), default=after)
        return BucketAnswer(
            question,
            step_us,
            buckets.lines(plan.lines),
            self._cursor(question, newest),
            len(messages),
            unread.add_to(plan.notices),
            unread.notice,
        )

    def rows(self, question: Question, page_size: int, page_token: str = "") -> RowAnswer:
        """Readings and gaps as taken, by time, `page_size` at most. A token continues the same question."""
        asked = question_id("rows", question.gateway, *question.series, question.cursor, question.written)
        place, newest = Place(question.start_us, 0), -1
        if page_token:
            parts = unpack_token("page_token", page_token, asked, int, int, int, int, int)
            start_us, end_us, time_us, given, newest = (int(part) for part in parts)
            if not TIME_US_MIN <= start_us <= time_us < end_us <= TIME_US_MAX or given < 0 or newest < 0:
                raise QueryInvalid("page_token points outside its range. Ask without it first")
            question = replace(question, start_us=start_us, end_us=end_us)
            place = Place(time_us, given)
        plan, after = self._open(question)
        messages = self._messages(question, plan, place.time_us, after)
        if newest < 0:
            newest = max((message.id for message in messages), default=after)
        messages = [message for message in messages if message.id <= newest]
        unread = Unread(self._said)
        rows, following = read_page(
            messages,
            lambda message: self._slices(message, plan, place.time_us, question.end_us, unread),
            place,
            question.end_us,
            page_size,
        )
        token = ""
        if following:
            where = (question.start_us, question.end_us, following.time_us, following.given, newest)
            token = pack_token(asked, *where)
        cursor, notices = self._cursor(question, newest), unread.add_to(plan.notices)
        return RowAnswer(question, plan.lines, rows, token, cursor, len(messages), notices, unread.notice)

    def latest(self, gateway: GatewayRow) -> list[Latest]:
        """The newest reading of every line, as far as a day before the gateway was last seen.

        When that day holds none at all (a gateway without a clock), whatever is newest. A boot whose clock was years
        ahead hides nothing.
        """
        sets = self._catalog.series_sets(gateway.id)
        plan = make_plan(sets, (), lines_max=max(1, len(sets)) * SERIES_PER_SET_MAX)
        newest = Newest(plan.lines)
        for window_us in LATEST_WINDOWS_US:
            if newest.missing():
                seen_us = gateway.last_seen_us
                self._newest_in(gateway.id, plan, newest, seen_us - window_us, seen_us + LATEST_AHEAD_US)
        if len(newest.missing()) == len(plan.lines):
            self._newest_in(gateway.id, plan, newest, TIME_US_MIN, TIME_US_MAX)
        return newest.result()

    def _newest_in(self, gateway: str, plan: Plan, newest: Newest, start_us: int, end_us: int) -> None:
        missing = newest.missing()
        for set_id, columns in plan.columns.items():
            lines = {column.line for column in columns}
            if missing.isdisjoint(lines):
                continue
            messages = self._catalog.messages(gateway, (set_id,), start_us, end_us)
            messages.sort(key=lambda message: message.t_max_us, reverse=True)
            for message in messages[:LATEST_MESSAGES_MAX]:
                if newest.settled(lines, message.t_max_us):
                    break
                for part in self._slices(message, plan, TIME_US_MIN, TIME_US_MAX, Unread(self._said)):
                    newest.add(part)

    def _open(self, question: Question) -> tuple[Plan, int]:
        if question.end_us <= question.start_us:
            raise QueryInvalid(
                f"end {question.end_us} us is not after start {question.start_us} us. A range is start <= time < end"
            )
        plan = make_plan(self._catalog.series_sets(question.gateway), question.series)
        if not question.cursor:
            return plan, 0
        (after,) = unpack_token("after", question.cursor, self._cursor_id(question), int)
        return plan, max(0, int(after))

    def _cursor(self, question: Question, newest: int) -> str:
        return pack_token(self._cursor_id(question), newest)

    def _cursor_id(self, question: Question) -> int:
        """A cursor outlives the range of its question, but not its gateway, series or the catalog's generation."""
        return question_id("after", question.gateway, *question.series, str(self._catalog.generation()))

    def _messages(self, question: Question, plan: Plan, start_us: int, after: int) -> list[MessageRow]:
        if not plan.set_ids:
            return []
        return self._catalog.messages(question.gateway, plan.set_ids, start_us, question.end_us, after)

    def _slices(self, message: MessageRow, plan: Plan, start_us: int, end_us: int, unread: Unread) -> Sequence[Slice]:
        try:
            return list(slices(self.cache.get(message), message, plan, start_us, end_us))
        except (ObjectMissing, SegmentCorrupt, UnsupportedFormat) as error:
            unread.note(message, error)
            return ()
