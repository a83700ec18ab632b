"""Home Assistant's device-based discovery: one retained message names the gateway and all its channels.

Source: Home Assistant's MQTT integration, "Device discovery payload": `device`, `origin` and `components` are
mandatory there, and an entity is taken back by a component with nothing but its platform.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edge_agent.sources.sensor import Sensor
from edge_agent.version import VERSION
from wire.series import ValueType

ORIGIN = {"name": "Tidegate edge-agent", "sw_version": VERSION}
PLATFORM = "sensor"

# SenML's units that Home Assistant writes in another way; others are the same there, or only a text.
UNITS = {
    "Cel": "°C", "%RH": "%", "/": "", "count": "", "deg": "°", "lat": "°", "lon": "°", "uT": "µT", "ug/m3": "µg/m³",
    "m3": "m³", "m3/s": "m³/s", "l": "L", "l/s": "L/s", "W/m2": "W/m²", "m/s2": "m/s²", "kg/m3": "kg/m³",
    "%EL": "%", "1/min": "1/min", "pH": "", "vars": "varh", "Ohm": "Ω", "Bspl": "dB",
}  # fmt: skip

# Home Assistant refuses an entity whose unit is not one of its device class: the class is left out then.
CLASS_UNITS: dict[str, tuple[str, ...]] = {
    "apparent_power": ("VA", "kVA"),
    "atmospheric_pressure": ("Pa", "hPa", "kPa", "mbar"),
    "battery": ("%",),
    "carbon_dioxide": ("ppm",),
    "carbon_monoxide": ("ppm",),
    "conductivity": ("S/m",),
    "current": ("A", "mA"),
    "distance": ("km", "m", "cm", "mm"),
    "duration": ("d", "h", "min", "s", "ms"),
    "energy": ("Wh", "kWh", "J"),
    "frequency": ("Hz", "kHz", "MHz"),
    "humidity": ("%",),
    "illuminance": ("lx",),
    "irradiance": ("W/m²",),
    "moisture": ("%",),
    "pm1": ("µg/m³",),
    "pm10": ("µg/m³",),
    "pm25": ("µg/m³",),
    "power": ("W", "kW", "mW"),
    "power_factor": ("", "%"),
    "precipitation": ("cm", "mm"),
    "precipitation_intensity": ("mm/h",),
    "pressure": ("Pa", "hPa", "kPa", "mbar"),
    "reactive_power": ("var", "kvar"),
    "signal_strength": ("dB", "dBm"),
    "sound_pressure": ("dB",),
    "speed": ("m/s", "km/h", "mm/s"),
    "temperature": ("°C", "K"),
    "voltage": ("V", "mV"),
    "volume": ("m³", "L"),
    "volume_flow_rate": ("m³/h", "L/s"),
    "water": ("m³", "L"),
    "weight": ("kg", "g", "mg"),
    "wind_speed": ("m/s", "km/h"),
}


def config_topic(prefix: str, gateway: str) -> str:
    """Where the announcement stands; an object id has only letters, digits, `_` and `-`."""
    return f"{prefix}/device/{slug(f'edge-{gateway}')}/config"


def document(
    gateway: str, base: str, sensors: Sequence[Sensor], retired: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """The announcement. `retired`: ids and platforms of entities that are taken back."""
    components = {}
    for sensor in sensors:
        for at, key in enumerate(component_ids([sensor])):
            components[key] = _component(gateway, base, sensor, at, key)
    components |= {key: {"platform": platform} for key, platform in retired}
    return {
        "device": {
            "identifiers": [slug(f"edge-{gateway}")],
            "name": gateway,
            "manufacturer": "Tidegate",
            "model": "edge gateway",
            "sw_version": VERSION,
        },
        "origin": ORIGIN,
        "availability": [{"topic": base}],
        "components": components,
    }


def component_ids(sensors: Sequence[Sensor]) -> list[str]:
    """One per channel."""
    return [slug(f"{sensor.name}-{flow.plan.channel.name}") for sensor in sensors for flow in sensor.flows]


def components_of(payload: bytes) -> list[tuple[str, str]]:
    """Ids and platforms of an announcement that the broker kept; none where it is not one of ours."""
    try:
        found = json.loads(payload)
        return [
            (str(key), str(component["platform"]))
            for key, component in found["components"].items()
            if len(component) > 1  # with the platform alone it is being taken back already
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def slug(text: str) -> str:
    """Letters, digits, `_` and `-`; all else as `_` and its code, so that no two texts become one."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "-") else f"_{ord(c):x}_" for c in text)


def _component(gateway: str, base: str, sensor: Sensor, at: int, key: str) -> dict[str, Any]:
    flow = sensor.flows[at]
    channel = flow.plan.channel
    unit = UNITS.get(channel.unit, channel.unit)
    found: dict[str, Any] = {
        "platform": PLATFORM,
        "unique_id": slug(f"edge-{gateway}-{sensor.name}-{channel.name}"),
        "name": f"{sensor.name} {channel.name}",
        "state_topic": f"{base}/{sensor.name}",
        "value_template": f"{{{{ value_json['values'][{json.dumps(channel.name)}] }}}}",
        "state_class": "measurement",
    }
    if unit:
        found["unit_of_measurement"] = unit
    if unit in CLASS_UNITS.get(channel.device_class, ()):
        found["device_class"] = channel.device_class
    if flow.definition.value_type is ValueType.INT and "e" not in repr(
        step := flow.definition.num / flow.definition.den
    ):
        found["suggested_display_precision"] = len(repr(step).partition(".")[2].rstrip("0"))
    return found
