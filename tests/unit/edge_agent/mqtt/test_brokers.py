from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_agent.errors import CredentialsRejected
from edge_agent.mqtt.brokers import Brokers
from tests.unit.edge_agent.mqtt.parts import BOILER, config_of
from wire.clock import SystemClock


def brokers_of(folder: Path, text: str = BOILER) -> Brokers:
    return Brokers(config_of(folder, text), [], lambda ticks: None, lambda: True, SystemClock())


def test_they_start_and_stop_without_a_broker(tmp_path: Path) -> None:
    brokers = brokers_of(tmp_path, BOILER.replace("mqtt://127.0.0.1", "mqtt://127.0.0.1:1"))
    assert [sensor.name for sensor in brokers.sensors] == ["boiler"]
    brokers.start()
    while "refused" not in brokers.links[0].error:
        assert brokers.failure() is None
        time.sleep(0.01)
    began = time.monotonic()
    assert brokers.stop(5.0) == []
    assert time.monotonic() - began < 1.5, "a waiting thread was not woken"
    assert brokers.failure() is None


def test_a_mistake_of_ours_is_handed_to_the_agent(tmp_path: Path) -> None:
    brokers = brokers_of(tmp_path)
    brokers.links[0].step = lambda timeout_s=0.0: 1 // 0  # type: ignore[method-assign, assignment]
    brokers.start()
    while brokers.failure() is None:
        time.sleep(0.01)
    assert isinstance(brokers.failure(), ZeroDivisionError)
    brokers.stop(1.0)
    brokers.links[0].close()


@pytest.mark.parametrize("lines", ['username = "x"\npassword_file = "none"', 'ca = "a.toml"', 'cert = "a"\nkey = "b"'])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, lines: str) -> None:
    text = BOILER.replace('url = "mqtt://127.0.0.1"', f'url = "mqtts://127.0.0.1"\n{lines}')
    with pytest.raises(CredentialsRejected, match=r"\[mqtt.site\]: /"):
        brokers_of(tmp_path, text)
