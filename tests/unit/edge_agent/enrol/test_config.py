"""What a join means for the configuration: [cloud] by itself, and people before the cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import exits
from edge_agent.config.load import load
from edge_agent.config.model import Config
from edge_agent.enrol.identity import FOLDER, JoinFacts, facts_json
from edge_agent.errors import ConfigInvalid, ConfigUnreadable
from simulator.disk import State, watching

FACTS = JoinFacts("gw-7", "cloud.example", 8443, 8444, "", 0, 1, {"site": "oslo", "floor": "2"})
SENSOR = '[bus.i2c-1]\nkind = "i2c"\n[[sensor]]\nid = "climate"\ndriver = "bme280"\nbus = "i2c-1"\n'


class Place:
    """A configuration, with a state directory that may have been joined."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = folder / "state" / FOLDER

    def join(self, assigned: str = "") -> None:
        self.identity.mkdir(parents=True)
        (self.identity / "join.json").write_bytes(facts_json(FACTS))
        if assigned:
            (self.identity / "assigned.toml").write_text(assigned)

    def load(self, text: str = "") -> Config:
        (self.folder / "a.toml").write_text(f'[agent]\nstate_dir = "state"\n{text}')
        return load(self.folder / "a.toml")

    def problems(self, text: str = "") -> list[str]:
        with pytest.raises(ConfigInvalid) as told:
            self.load(text)
        return told.value.problems


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_without_a_join(place: Place) -> None:
    assert place.load().cloud is None
    assert place.load('[cloud]\nbatch = "1s"\n').cloud is None
    assert not place.load().is_by_identity


def test_a_join_is_all_that_the_cloud_needs(place: Place) -> None:
    place.join()
    config = place.load()
    assert config.cloud is not None
    assert (config.cloud.address, config.cloud.batch) == ("cloud.example:8443", 60.0)
    assert (config.cloud.ca, config.cloud.cert) == (str(place.identity / "ca.pem"), str(place.identity / "device.pem"))
    assert config.cloud.key == config.cloud.cert
    assert config.is_by_identity
    assert (config.agent.name, config.agent.labels) == ("gw-7", FACTS.labels)


def test_people_go_before_the_join(place: Place) -> None:
    place.join()
    config = place.load('name = "mine"\nlabels = { floor = "3" }\n[cloud]\nurl = "https://proxy:1"\nbatch = "1s"\n')
    assert config.cloud is not None
    assert (config.cloud.address, config.cloud.batch) == ("proxy:1", 1.0)
    assert config.is_by_identity
    assert (config.agent.name, config.agent.labels) == ("mine", {"site": "oslo", "floor": "3"})
    files = '[cloud]\nurl = "https://other:1"\nca = "ca.pem"\ncert = "c.pem"\nkey = "k.pem"\n'
    other = place.load(files)
    assert other.cloud is not None
    assert other.cloud.ca == str(place.folder / "ca.pem")
    assert not other.is_by_identity
    assert place.problems('[cloud]\nca = "ca.pem"\n') == [
        'a.toml:3 [cloud]: "url", "ca", "cert" and "key" go together, or none after a join'
    ]


def test_people_go_before_what_the_cloud_assigned(place: Place) -> None:
    place.join('[agent]\ninterval = "5s"\nlog_level = "debug"\n' + SENSOR + '[buffer]\nmax_size = "1 GB"\n')
    assert [sensor.id for sensor in place.load().sensors] == ["climate"]
    local = 'log_level = "error"\n' + SENSOR.replace("bme280", "sht3x") + SENSOR.rpartition("[[")[2].join(["[[", ""])
    config = place.load(local.replace('id = "climate"', 'id = "own"', 2).replace('id = "own"', 'id = "climate"', 1))
    assert (config.agent.interval, config.agent.log_level, config.buffer.max_size) == (5.0, "error", 1_000_000_000)
    assert [(sensor.id, sensor.driver_name) for sensor in config.sensors] == [("climate", "sht3x"), ("own", "bme280")]


def test_what_the_cloud_may_not_assign(place: Place) -> None:
    place.join('[cloud]\nurl = "https://other:1"\n[agent]\nruntime_dir = "/tmp"\nname = "x"\n')
    said = place.problems()
    assert [line.partition(": ")[0] for line in said] == [f"assigned.toml:{n}" + w for n, w in (
        (1, " [cloud]"), (4, " [agent]"), (5, " [agent]"))]  # fmt: skip
    assert all("people of this machine only" in line for line in said)


def test_a_damaged_identity_is_a_problem_of_the_configuration(place: Place) -> None:
    place.join()
    (place.identity / "join.json").write_text("{")
    (problem,) = place.problems()
    assert "join.json is damaged" in problem
    assert "edge-agent leave --force" in problem


@pytest.mark.parametrize("name", ["state/identity/join.json", "cloud/assigned.toml", "a.toml"])
def test_a_card_that_fails_is_no_mistake_of_the_configuration(place: Place, name: str) -> None:
    """Exit 78 would end the agent for good: systemd does not start it again."""
    place.join()
    place.load()
    assigned = place.folder / "cloud" / "assigned.toml"
    assigned.parent.mkdir()
    assigned.write_text("")
    with watching(files=True) as make_disk:
        make_disk((place.folder / name).parent).state = State.FAILING
        with pytest.raises(ConfigUnreadable, match=f"{name}.*cannot be read.*Input/output error") as told:
            load(place.folder / "a.toml", assigned=assigned)
        assert exits.code_of(told.value) == exits.TRY_AGAIN
    load(place.folder / "a.toml", assigned=assigned)


def test_a_file_that_is_not_for_this_user_stays_a_mistake(place: Place) -> None:
    (place.folder / "a.toml").mkdir()
    with pytest.raises(ConfigInvalid) as told:
        load(place.folder / "a.toml")
    assert exits.code_of(told.value) == exits.CONFIG
