"""Devices for tests and demo, honest and hostile; nothing here knows the integration's code."""
