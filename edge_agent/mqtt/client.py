"""The only importer of paho: one client of one broker, driven by one thread through `work`.

MQTT 5, or 3.1.1 where the broker knows no other. The session outlives the connection, and every message of QoS 1 is
acknowledged by hand. paho's own thread is not used: whoever calls `work` gets the callbacks, and an error in them.
"""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.config.mqtt import MqttSection
from edge_agent.mqtt.message import BrokerRefused, Handler, Message, Outgoing, Subscription

CONNECT_S_MAX = 5.0  # for TCP and TLS
RECEIVE_MAX = 32  # messages that the broker may have on the way to us unacknowledged: MQTT 5 section 3.1.2.11.3
PACKET_BYTES_MAX = 262_144  # the broker drops what is larger, so that no message can eat the memory: 3.1.2.11.4
SESSION_NEVER_ENDS = 0xFFFFFFFF  # 3.1.2.11.2
RETAIN = {
    "always": SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE,
    "new": SubscribeOptions.RETAIN_SEND_IF_NEW_SUB,
    "never": SubscribeOptions.RETAIN_DO_NOT_SEND,
}


class Client:
    """See the module."""

    def __init__(self, section: MqttSection, client_id: str, will: Outgoing | None, handler: Handler) -> None:
        self._section = section
        self._client_id = client_id
        self._will = will
        self._handler = handler
        self._asked: dict[int, list[str]] = {}  # filters by the id of their SUBSCRIBE
        self._answered = False  # the broker spoke MQTT since `connect`
        self._why = ""  # it refused us
        self._waker, self._wakened = socket.socketpair()
        self._wakened.setblocking(False)
        self._waker.setblocking(False)
        self._five = True
        self._paho = self._make()

    def connect(self) -> None:
        """Open TCP and TLS and send CONNECT; `Handler.connected` or `lost` follows from `work`.

        Raises BrokerRefused.
        """
        self._answered = False
        self._why = ""
        self._asked.clear()
        section = self._section
        options: dict[str, Any] = {}
        if self._five:
            options = {"clean_start": False, "properties": self._session()}
        try:
            self._paho.username_pw_set(section.username or None, password_of(section))
            self._paho.connect(section.host, section.port, round(section.keepalive), **options)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise BrokerRefused(f"{section.url}: {error}") from error

    def work(self, timeout_s: float) -> None:
        """Wait for something to do, at most so long, and do it. Also the wait while there is no connection."""
        client = self._paho
        link = client.socket()
        reads: list[Any] = [self._wakened] if link is None else [self._wakened, link]
        writes = [link] if link is not None and client.want_write() else []
        pending = isinstance(link, ssl.SSLSocket) and link.pending() > 0
        readable, writable, _ = select.select(reads, writes, [], 0.0 if pending else max(0.0, timeout_s))
        if self._wakened in readable:
            with suppress(BlockingIOError):
                self._wakened.recv(4096)
        if link is None:
            return
        if pending or link in readable:
            client.loop_read()
        if writable or client.want_write():
            client.loop_write()
        client.loop_misc()

    def wake(self) -> None:
        """End the wait in `work`. For any thread."""
        with suppress(BlockingIOError, OSError):  # full: it is awake already; closed: it is over
            self._waker.send(b"!")

    def subscribe(self, subscriptions: list[Subscription]) -> None:
        """Ask for topics; a persistent session is told again, which changes nothing."""
        asked: list[Any] = []
        for each in subscriptions:
            options = SubscribeOptions(qos=each.qos, retainHandling=RETAIN[each.retained])
            asked.append((each.topic, options if self._five else each.qos))
        if asked:
            code, mid = self._paho.subscribe(asked)
            if code == paho.MQTT_ERR_SUCCESS and mid is not None:
                self._asked[mid] = [each.topic for each in subscriptions]

    def publish(self, outgoing: Outgoing) -> None:
        """Send; QoS 1 is sent again after a reconnect until the broker has it."""
        self._paho.publish(outgoing.topic, outgoing.payload, outgoing.qos, outgoing.retain)

    def ack(self, message: Message) -> None:
        """The broker may forget the message."""
        self._paho.ack(message.mid, message.qos)

    def unsent(self) -> bool:
        """Whether something waits for the socket."""
        return self._paho.socket() is not None and self._paho.want_write()

    def drop(self) -> None:
        """End the connection as a cut would: the broker keeps what is not acknowledged, and tells our will."""
        link: Any = self._paho.socket()
        if link is not None:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Say goodbye, so that the will is not told. The session stays."""
        if self._paho.socket() is not None:
            self._paho.disconnect()
        self._waker.close()
        self._wakened.close()

    def _make(self) -> paho.Client:
        section = self._section
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self._client_id,
            clean_session=None if self._five else False,
            protocol=paho.MQTTv5 if self._five else paho.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_S_MAX
        if section.tls:
            client.tls_set_context(tls_context(section))
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, self._will.qos, self._will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_socket_register_write = lambda *_: None  # paho leaves writing to `work`
        return client

    def _session(self) -> Any:
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = min(round(self._section.session), SESSION_NEVER_ENDS - 1)
        properties.ReceiveMaximum = RECEIVE_MAX
        properties.MaximumPacketSize = PACKET_BYTES_MAX
        return properties

    def _on_connect(self, _client: Any, _data: Any, flags: paho.ConnectFlags, code: ReasonCode, _more: Any) -> None:
        self._answered = not (code.is_failure and "protocol version" in str(code).lower())
        self._why = str(code) if code.is_failure else ""
        if not code.is_failure:
            self._handler.connected(flags.session_present, "5" if self._five else "3.1.1")

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, code: ReasonCode, _more: Any) -> None:
        if self._answered:
            told = bool(self._why) or flags.is_disconnect_packet_from_server
            why = (self._why or str(code)) if told else f"the connection ended ({code})"
            self._handler.lost(f"{self._section.url}: {why}")
            return
        spoken = "5" if self._five else "3.1.1"
        self._five = not self._five
        self._paho = self._make()
        self._handler.lost(f"{self._section.url}: no answer to MQTT {spoken}")

    def _on_message(self, _client: Any, _data: Any, found: paho.MQTTMessage) -> None:
        try:
            topic = found.topic
        except UnicodeDecodeError:
            topic = ""  # matches no filter
        self._handler.message(
            Message(topic, bytes(found.payload), found.mid, found.qos, bool(found.dup), bool(found.retain))
        )

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: list[ReasonCode], _more: Any) -> None:
        for topic, code in zip(self._asked.pop(mid, []), codes):
            if code.is_failure:
                self._handler.refused(topic, str(code))


def password_of(section: MqttSection) -> str | None:
    """The first line of the password file. Raises OSError, UnicodeDecodeError (a ValueError)."""
    if not section.password_file:
        return None
    return Path(section.password_file).read_text(encoding="utf-8").split("\n")[0].rstrip("\r")


def tls_context(section: MqttSection) -> ssl.SSLContext:
    """Checks the broker's certificate and name. Raises OSError for files that cannot be used."""
    context = ssl.create_default_context(cafile=section.ca or None)
    if section.cert:
        context.load_cert_chain(section.cert, section.key)
    return context
