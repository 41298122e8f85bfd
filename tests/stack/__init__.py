"""Start the real components of an installation on loopback: brokers, Home Assistant, a browser."""
