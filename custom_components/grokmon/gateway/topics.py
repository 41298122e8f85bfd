"""MQTT topics of the wire protocol, version 1."""

import re
from typing import Final

from .models import Channel, Downlink

DEVICE_ID_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
PREFIX_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,32}(/[A-Za-z0-9_-]{1,32}){0,3}")
VERSION: Final = "v1"
# The two devices that the probe of the broker plays.
PROBE_IDS: Final = ("grokmon-probe-1", "grokmon-probe-2")
# Those, and what the gateway's own device and entities are called.
RESERVED_IDS: Final = (*PROBE_IDS, "grokmon", "hub")


def subscription(prefix: str) -> str:
    """Return the one filter under which all devices publish."""
    return f"{prefix}/{VERSION}/+/up/+"


def uplink(prefix: str, device_id: str, channel: Channel) -> str:
    """Return the topic on which a device publishes a channel."""
    return f"{prefix}/{VERSION}/{device_id}/up/{channel}"


def downlink(prefix: str, device_id: str, channel: Downlink) -> str:
    """Return the topic on which a device is spoken to."""
    return f"{prefix}/{VERSION}/{device_id}/down/{channel}"


def all_topics(prefix: str, device_id: str) -> dict[str, str]:
    """Return every topic of a device by channel."""
    up = {channel.value: uplink(prefix, device_id, channel) for channel in Channel}
    return up | {channel.value: downlink(prefix, device_id, channel) for channel in Downlink}


def split(prefix: str, topic: str) -> tuple[str, str]:
    """Return the device id and the channel of a topic that the subscription matched."""
    _, _, device_id, _, channel = topic[len(prefix) :].split("/")
    return device_id, channel
