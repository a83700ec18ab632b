"""The stub broker: what it counts, and what a client of real MQTT makes of it."""

from __future__ import annotations

import asyncio
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from simulator.lab.peers.mqtt_stub import IN_FLIGHT_MAX, MqttStub


def client_of(stub: MqttStub, version: MQTTProtocolVersion) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, "test", protocol=version)
    client.connect_async("127.0.0.1", stub.port)
    client.loop_start()
    return client


async def until(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - threads of the client change it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
async def test_a_sink_counts_numbers_and_answers(version: MQTTProtocolVersion) -> None:
    stub = MqttStub(lambda topic, payload: ("lab/answer", b"yes") if topic == "lab/question" else None)
    await stub.start()
    client = client_of(stub, version)
    heard: list[bytes] = []
    subscribed = threading.Event()
    client.on_message = lambda _client, _data, message: heard.append(message.payload)
    client.on_subscribe = lambda *_: subscribed.set()
    try:
        await until(client.is_connected)
        client.subscribe("lab/answer", 1)
        await until(subscribed.is_set)
        acknowledged = client.publish("a", b'{"lab":[{"values":{"n":1}},{"values":{"n": 22}}]}', 1)
        client.publish("a", b'{"n":1}', 0)
        client.publish("a", b'{"n":' + b"9" * 20_000 + b"}", 1)
        client.publish("lab/question", b"?", 1)
        await until(lambda: heard == [b"yes"])
        await until(acknowledged.is_published)
        assert dict(stub.delivered) | {1: 2, 22: 1} == dict(stub.delivered)
        assert len(stub.delivered) == 2
    finally:
        client.disconnect()
        client.loop_stop()
        await stub.close()


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
async def test_a_source_counts_what_was_acknowledged(version: MQTTProtocolVersion) -> None:
    stub = MqttStub()
    await stub.start()
    assert not stub.give(1)  # nobody is there
    client = client_of(stub, version)
    heard: list[bytes] = []
    client.on_message = lambda _client, _data, message: heard.append(message.payload)
    try:
        await until(client.is_connected)
        client.subscribe("lab/readings", 1)
        await until(lambda: stub.has_subscriber)
        given = [number for number in range(1, 100) if stub.give(number)]
        assert given == list(range(1, 1 + IN_FLIGHT_MAX))
        await until(lambda: stub.accepted == set(given))
        assert len(heard) == len(given)
    finally:
        client.disconnect()
        client.loop_stop()
        await stub.close()
