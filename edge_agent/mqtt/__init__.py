"""MQTT: messages of a broker as readings, and readings, alarms and Home Assistant's discovery back to it."""
