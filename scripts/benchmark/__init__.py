"""The bench: grokmon against Home Assistant's own MQTT sensors, on a real broker, one process per mode."""
