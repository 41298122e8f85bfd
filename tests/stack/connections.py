"""What tests ask of a connection to a broker, and the integration does not."""

from typing import Final

from custom_components.grokmon.broker.connection import Connection

NOT_AUTHORIZED: Final = 0x87
"""The reason of MQTT 5 for what the rights of an account forbid (section 2.4)."""


def is_open(connection: Connection) -> bool:
    """Tell whether the broker still has a connection at this moment."""
    return connection._closed is None and connection._loop() and connection._closed is None
