"""Tests of the topics."""

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import topics
from custom_components.grokmon.gateway.models import Channel, Downlink

DEVICE_IDS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True)
PREFIXES = st.from_regex(r"[A-Za-z0-9_-]{1,32}(/[A-Za-z0-9_-]{1,32}){0,3}", fullmatch=True)


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a filter without `#` matches a topic, as a broker decides it (MQTT 5.0, section 4.7)."""
    ours, theirs = topic_filter.split("/"), topic.split("/")
    return len(ours) == len(theirs) and all(a in ("+", b) for a, b in zip(ours, theirs, strict=True))


def test_topics_of_a_device() -> None:
    """Spell every topic as the protocol does."""
    assert topics.all_topics("grokmon", "tent-1") == {
        "hello": "grokmon/v1/tent-1/up/hello",
        "telemetry": "grokmon/v1/tent-1/up/telemetry",
        "state": "grokmon/v1/tent-1/up/state",
        "ack": "grokmon/v1/tent-1/up/ack",
        "status": "grokmon/v1/tent-1/up/status",
        "session": "grokmon/v1/tent-1/down/session",
        "command": "grokmon/v1/tent-1/down/command",
    }


def test_subscription() -> None:
    """Listen to what devices say, under one filter."""
    assert topics.subscription("room/a") == "room/a/v1/+/up/+"


@given(PREFIXES, DEVICE_IDS, st.sampled_from(Channel))
def test_uplink_comes_back_apart(prefix: str, device_id: str, channel: Channel) -> None:
    """Find the device and the channel again in every topic that the subscription matches."""
    topic = topics.uplink(prefix, device_id, channel)
    assert matches(topics.subscription(prefix), topic)
    assert topics.split(prefix, topic) == (device_id, channel.value)


@given(PREFIXES, DEVICE_IDS, st.sampled_from(Downlink))
def test_downlink_is_not_heard(prefix: str, device_id: str, channel: Downlink) -> None:
    """Never listen to what is said to a device."""
    assert not matches(topics.subscription(prefix), topics.downlink(prefix, device_id, channel))


@pytest.mark.parametrize("topic", ["grokmon", "grokmon/v1/tent-1/up", "grokmon/v1/tent-1/up/hello/more"])
def test_split_refuses_other_topics(topic: str) -> None:
    """Raise for a topic that the subscription does not match."""
    with pytest.raises(ValueError, match="values to unpack"):
        topics.split("grokmon", topic)


@pytest.mark.parametrize("device_id", ["a", "0", "tent-1", "tent_1", "a" * 32, "0-_"])
def test_device_id_allowed(device_id: str) -> None:
    """Take what the protocol allows as a name."""
    assert topics.DEVICE_ID_PATTERN.fullmatch(device_id)


@pytest.mark.parametrize(
    "device_id",
    [
        "",
        "-a",
        "_a",
        "A",
        "Tent",
        "a" * 33,
        "a b",
        "a/b",
        "+",
        "#",
        "a+",
        "a#",
        "a\n",
        "\na",
        "ä",
        "\u0430",
        "\uff11",
        "a\x00",
    ],
)
def test_device_id_refused(device_id: str) -> None:
    """Refuse names with wildcards, levels, line ends or letters that look like others."""
    assert topics.DEVICE_ID_PATTERN.fullmatch(device_id) is None


@pytest.mark.parametrize("prefix", ["grokmon", "a/b/c/d", "Room_1/tent-2", "a" * 32])
def test_prefix_allowed(prefix: str) -> None:
    """Take up to four levels of ordinary letters."""
    assert topics.PREFIX_PATTERN.fullmatch(prefix)


@pytest.mark.parametrize(
    "prefix", ["", "/", "a/", "/a", "a//b", "a/b/c/d/e", "+", "#", "a/#", "$SYS", "a b", "a\n", "ä", "a" * 33]
)
def test_prefix_refused(prefix: str) -> None:
    """Refuse prefixes with wildcards, empty levels, or of the broker's own."""
    assert topics.PREFIX_PATTERN.fullmatch(prefix) is None


@pytest.mark.parametrize("prefix", ["grokmon", "farm/tent", "a/b/c/d"])
def test_no_topic_slips_through_the_wildcard(prefix: str) -> None:
    """The one subscription has every channel of every device under a nested prefix, and nothing deeper or shallower."""
    filter_ = topics.subscription(prefix)
    for channel in Channel:
        topic = topics.uplink(prefix, "tent-1", channel)
        assert matches(filter_, topic)
        assert topics.split(prefix, topic) == ("tent-1", channel)
    for other in ("v1/tent-1/up", "v1/tent-1/up/telemetry/more", "v1/a/b/up/ack", "v1/tent-1/down/command", "up/ack"):
        assert not matches(filter_, f"{prefix}/{other}")
