"""Tests on real components: brokers, Home Assistant and a browser, as processes on loopback."""
