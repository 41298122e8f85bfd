"""The demo: a grow room with a real Home Assistant, a real broker, simulated devices and an intruder."""
