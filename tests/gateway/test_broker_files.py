"""Tests of the files for a broker without the plugin."""

import base64
import hashlib

import pytest

from custom_components.grokmon.gateway.broker_accounts import Account, role_of
from custom_components.grokmon.gateway.broker_files import acl_file, fits, password_line, salt_of

ROLE = role_of("grokmon", "tent-1", ["telemetry"], ["command"])
ACCOUNT = Account(username="tent-1.k1", device_id="tent-1", client_id="tent-1", password="correct horse")
MISREAD = "^a user name or a topic that the broker would misread$"
CERTIFICATE = Account(username="tent-1", device_id="tent-1", client_id="tent-1")


def test_line_of_a_password_is_what_mosquitto_reads() -> None:
    """Write name, scheme, rounds, salt and the PBKDF2 of the password."""
    name, _, rest = password_line(ACCOUNT.username, "correct horse").removesuffix("\n").partition(":")
    _, scheme, rounds, salt, digest = rest.split("$")
    assert (name, scheme, rounds) == ("tent-1.k1", "7", "101")
    expected = hashlib.pbkdf2_hmac("sha512", b"correct horse", base64.b64decode(salt), 101)
    assert base64.b64decode(digest) == expected
    assert len(base64.b64decode(salt)) == 12


def test_salt_is_new_each_time() -> None:
    """Salt every password anew, and show none."""
    first, second = (password_line(ACCOUNT.username, "correct horse") for _ in range(2))
    assert first != second
    assert "correct horse" not in first + second


def test_salt_of_a_line() -> None:
    """Write the same line again with the salt of the one that there is."""
    line = password_line(ACCOUNT.username, "correct horse")
    salt = salt_of(line)
    assert salt is not None
    assert len(salt) == 12
    assert password_line(ACCOUNT.username, "correct horse", salt) == line
    assert password_line(ACCOUNT.username, "other", salt) != line


@pytest.mark.parametrize(("old", "new"), [("$101$", "$100$"), ("$7$", "$6$"), ("\n", ""), ("=", ""), (":", "")])
def test_salt_of_another_line(old: str, new: str) -> None:
    """Find no salt in what this code did not write."""
    assert salt_of(password_line(ACCOUNT.username, "correct horse").replace(old, new)) is None


@pytest.mark.parametrize(
    ("name", "held"), [("homeassistant", True), ("a" * 129, False), ("a b", False), ("a:b", False)]
)
def test_name_that_fits(name: str, held: bool) -> None:
    """Tell a name that both files can hold from one that would end a line early."""
    assert fits(name) is held


def test_access_list() -> None:
    """Give the hub its two sides and each device its own topics."""
    assert acl_file("grokmon", [ROLE], "homeassistant", accounts=[CERTIFICATE], hub_topics=[]) == (
        "user homeassistant\n"
        "topic read grokmon/v1/+/up/+\n"
        "topic write grokmon/v1/+/down/+\n"
        "\n"
        "user tent-1\n"
        "topic write grokmon/v1/tent-1/up/telemetry\n"
        "topic read grokmon/v1/tent-1/down/command\n"
    )


def test_access_list_of_accounts() -> None:
    """Give a block to each open account of a device; a device whose accounts are all shut gets none."""
    other = role_of("grokmon", "tent-2", ["telemetry"], [])
    shut = Account(username="tent-2", device_id="tent-2", client_id="tent-2", enabled=False)
    written = acl_file("grokmon", [ROLE, other], "hub", accounts=[ACCOUNT, CERTIFICATE, shut], hub_topics=[])
    users = [line for line in written.splitlines() if line.startswith("user ")]
    assert users == ["user hub", "user tent-1.k1", "user tent-1"]
    assert "tent-2" not in written


def test_other_topics_of_the_hub() -> None:
    """Let the hub keep what it needs for something else."""
    assert "topic readwrite zigbee2mqtt/#\n" in acl_file(
        "grokmon", [], "hub", accounts=[], hub_topics=["zigbee2mqtt/#"]
    )


@pytest.mark.parametrize("name", ["", "a:b", "a\nuser b", "a b", "ä", "a\0"])
def test_name_that_would_be_misread(name: str) -> None:
    """Refuse a user name that ends before its end, or goes on in another line."""
    with pytest.raises(ValueError, match=MISREAD):
        password_line(name, "secret")
    with pytest.raises(ValueError, match=MISREAD):
        acl_file("grokmon", [], name, accounts=[], hub_topics=[])


def test_topic_that_would_be_misread() -> None:
    """Refuse a topic that goes on in another line, and a prefix that is none."""
    with pytest.raises(ValueError, match=MISREAD):
        acl_file("grokmon", [], "hub", accounts=[], hub_topics=["a\nuser eve\ntopic #"])
    with pytest.raises(ValueError, match=r"^not a topic prefix$"):
        acl_file("#", [], "hub", accounts=[], hub_topics=[])
