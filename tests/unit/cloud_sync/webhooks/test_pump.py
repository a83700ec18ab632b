"""Events to a real receiver that answers, fails, hangs, goes away and comes back."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloud_sync.catalog.webhooks import LEASE_US, Terms, Webhooks
from cloud_sync.cli import main
from cloud_sync.errors import ConfigInvalid
from cloud_sync.webhooks import post as posting
from cloud_sync.webhooks.post import checked_url, is_allowed, new_secret, silence_seconds
from cloud_sync.webhooks.pump import BACK_OFF_S_MAX, Pump, back_off_s
from tests.unit.cloud_sync.query.seeding import NOW_US, Cloud

SECRET = new_secret()


class Receiver:
    """An HTTP server that answers each POST by the next of its `answers`, the last one for ever."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        self.got.append((headers, await reader.readexactly(int(headers["content-length"]))))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await reader.read()  # hangs until the other side gives up
        else:
            writer.write(answer)
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=1"

    @property
    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.got]


OK, BROKEN = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 500 Oops\r\n\r\n"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    made.hello("press-3", (1, 10))
    yield made
    made.close()


def hooked(cloud: Cloud, receiver: Receiver) -> Webhooks:
    cloud.catalog.webhooks.add("a", SECRET, Terms(receiver.url, ("alarm",), 600, True))
    return cloud.catalog.webhooks


async def test_an_alarm_arrives_signed(cloud: Cloud) -> None:
    receiver = Receiver(OK)
    async with receiver.listening():
        hooks = hooked(cloud, receiver)
        cloud.alarm("press-3", 1, NOW_US, cleared_us=NOW_US + 1)
        pump = Pump(hooks, cloud.clock)
        assert [await pump.turn() for _ in range(3)] == [True, True, False]
    assert receiver.types == ["alarm.raised", "alarm.cleared"]
    headers, body = receiver.got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert int(headers["webhook-timestamp"]) == NOW_US // 1_000_000
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert SECRET not in str(receiver.got)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (BROKEN, "it answered 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n", "it answered 302"),
        (b"HTTP/1.1 199 x\r\n\r\n", "it answered 199"),
        (b"", "without an answer"),
        (b"220 smtp ready\r\n", "no HTTP"),
        (b"HTTP/1.1 200" + b" " * 100_000, "cannot be reached"),
        (None, "no answer within"),
    ],
)
async def test_what_is_not_taken_is_told_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, answer: bytes | None, error: str
) -> None:
    receiver = Receiver(answer, OK)
    async with receiver.listening():
        hooks = hooked(cloud, receiver)
        cloud.alarm("press-3", 1, NOW_US)
        pump = Pump(hooks, cloud.clock)
        with monkeypatch.context() as patch:
            if answer is None:
                patch.setattr(posting, "TIMEOUT_S", 0.2)
            assert not await pump.turn()
        (row,) = hooks.all()
        assert error in row.error
        assert not await pump.turn()  # not before its time
        cloud.clock.sleep(2)
        assert await pump.turn()
    first, second = ((headers["webhook-id"], body) for headers, body in receiver.got)
    assert first == second


async def test_a_receiver_that_restarts_misses_nothing(cloud: Cloud) -> None:
    receiver = Receiver(OK)
    async with receiver.listening():
        hooks = hooked(cloud, receiver)
    cloud.alarm("press-3", 1, NOW_US)
    pump = Pump(hooks, cloud.clock)
    for failures in range(3):
        assert not await pump.turn()
        assert hooks.all()[0].failures == failures + 1
        cloud.clock.sleep(LEASE_US / 1e6)
    async with receiver.listening():
        assert await pump.turn()
    assert receiver.types == ["alarm.raised"]
    assert hooks.all()[0].waiting == 0


async def test_a_private_receiver_must_be_allowed(cloud: Cloud) -> None:
    receiver = Receiver(OK)
    async with receiver.listening():
        cloud.catalog.webhooks.add("a", SECRET, Terms(receiver.url, ("alarm",), 600, False))
        cloud.alarm("press-3", 1, NOW_US)
        assert not await Pump(cloud.catalog.webhooks, cloud.clock).turn()
    assert receiver.got == []
    assert "127.0.0.1 is private" in cloud.catalog.webhooks.all()[0].error


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("93.184.215.14", True, True),
        ("10.1.2.3", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("fd00::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("100.64.0.1", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("64:ff9b::5db8:d70e", True, True),
        ("64:ff9b::10.1.2.3", False, True),
        ("64:ff9b::169.254.169.254", False, False),
        ("64:ff9b:1::a01:203", False, True),
        ("2002:a01:203::1", False, True),
        ("2001:4860:4860::8888", True, True),
        ("fd00:ec2::254", False, False),
        ("fd20:ce::254", False, False),
        ("100.100.100.200", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
    ],
)
def test_where_webhooks_may_lead(address: str, public: bool, private: bool) -> None:
    assert (is_allowed(address, False), is_allowed(address, True)) == (public, private)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "ftp://x/",
            "http://x/",
            "https://",
            "https://u:p@x/",
            "https://x:0/",
            "https://x:99999/",
            "https://x/ y",
        ),
        *("https://x/\r\nA: b", "https://x/" + "a" * 500, "https://x/#f", "https://[::1/"),
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigInvalid):
        checked_url(url, False)


def test_bounds() -> None:
    assert checked_url("http://10.0.0.1:9093/x", True) == "http://10.0.0.1:9093/x"
    assert silence_seconds("15m") == 900
    for wrong in ("29s", "31d", "soon"):
        with pytest.raises(ConfigInvalid, match="--silent-after"):
            silence_seconds(wrong)
    assert all(0.5 <= back_off_s(0) <= 1 for _ in range(20))
    assert all(BACK_OFF_S_MAX / 2 <= back_off_s(failures) <= BACK_OFF_S_MAX for failures in (10, 1000))


async def test_the_commands(tmp_path: Path) -> None:
    data = str(tmp_path / "data")

    async def run(*arguments: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--data", data])
        return done.exit_code, done.output

    assert (await run("init"))[0] == 0
    receiver = Receiver(OK, BROKEN)
    async with receiver.listening():
        code, said = await run("webhook", "add", receiver.url, "--allow-private", "--event", "gap", "--json")
        made = json.loads(said)
        assert code == 0
        assert made["secret"].startswith("whsec_")
        assert await run("webhook", "test", made["id"]) == (0, f"{receiver.url} answered 204\n")
        code, said = await run("webhook", "test", made["id"])
        assert (code, "it answered 500" in said) == (1, True)
    assert receiver.types == ["test", "test"]
    (row,) = json.loads((await run("webhook", "list", "--json"))[1])["webhooks"]
    assert (row["id"], row["events"], row["waiting"]) == (made["id"], "gap", 0)
    assert made["secret"] not in (await run("webhook", "list"))[1]
    assert (await run("webhook", "add", "http://x.example/"))[0] == 78
    assert (await run("webhook", "remove", made["id"]))[0] == 0
    assert (await run("webhook", "test", made["id"]))[0] == 1
