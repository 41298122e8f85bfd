"""Password and ACL files, as a real Mosquitto reads them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
import os
from pathlib import Path
import signal
from typing import override

import pytest

from custom_components.grokmon.broker.connection import (
    REFUSED,
    BrokerError,
    Connection,
    Endpoint,
    Login,
    RefusedError,
)
from custom_components.grokmon.broker.files import PASSWORDS, RULES, changed_files, write_files
from custom_components.grokmon.gateway.broker_accounts import Account, role_of
from tests.stack.brokers import HOME_ASSISTANT, MosquittoBroker
from tests.stack.certificates import Certificates
from tests.stack.connections import NOT_AUTHORIZED

pytestmark = pytest.mark.usefixtures("socket_enabled")

PREFIX = "grokmon"
HUB = Login(HOME_ASSISTANT, "the hub's own")
FIRST = Account(username="tent-1.k1", device_id="tent-1", client_id="tent-1", password="one")
SECOND = Account(username="tent-2.k1", device_id="tent-2", client_id="tent-2", password="two")
SHUT = Account(username="tent-2.k1", device_id="tent-2", client_id="tent-2", password="two", enabled=False)
BY_CERTIFICATE = Account(username="tent-2", device_id="tent-2", client_id="tent-2")
ROLES = [role_of(PREFIX, name, ("telemetry",), ("command",)) for name in ("tent-1", "tent-2")]
WITHIN = 5.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the files, which is not there yet."""
    return tmp_path / "config" / "grokmon" / "broker"


class FileBroker(MosquittoBroker):
    """Run a Mosquitto that goes by the files of a folder."""

    def __init__(self, path: Path, certificates: Certificates, files: Path) -> None:
        """Take the folder of the files."""
        self._files = files
        super().__init__(path, certificates)

    @override
    def _write_files(self) -> None:
        super()._write_files()
        lines = self._settings.read_text(encoding="utf-8").splitlines()
        # With no limit, 2.0.11 hangs up on whoever publishes what is denied.
        kept = [line for line in lines if not line.startswith(("password_file ", "max_queued_messages "))]
        files = [f"password_file {self._files / PASSWORDS}", f"acl_file {self._files / RULES}"]
        self._settings.write_text("\n".join([*files, *kept]) + "\n", encoding="utf-8")


@pytest.fixture
async def broker(tmp_path: Path, certificates: Certificates, folder: Path) -> AsyncGenerator[FileBroker]:
    """Run a Mosquitto that goes by the files of two devices."""
    if MosquittoBroker.find() is None:
        pytest.skip("mosquitto is not installed")
    assert write(folder)
    async with FileBroker(tmp_path / "broker", certificates, folder) as instance:
        yield instance


def write(folder: Path, accounts: Sequence[Account] = (FIRST, SECOND), hub: Login | None = HUB) -> bool:
    """Write the files; tell whether one of them was another."""
    changed = changed_files(str(folder), accounts, ROLES, PREFIX, hub)
    write_files(changed)
    return bool(changed)


def read(folder: Path) -> tuple[bytes, bytes]:
    """Return what both files hold."""
    return (folder / PASSWORDS).read_bytes(), (folder / RULES).read_bytes()


def users(folder: Path) -> list[str]:
    """Return who has a password."""
    return [line.partition(":")[0] for line in (folder / PASSWORDS).read_text(encoding="utf-8").splitlines()]


def connect(broker: FileBroker, client_id: str, login: Login) -> Connection:
    """Return a connection."""
    return Connection(Endpoint(broker.host, broker.port, broker.client_context()), client_id, login)


def gets_in(broker: FileBroker, login: Login) -> bool:
    """Tell whether somebody gets in."""
    try:
        with connect(broker, "x", login):
            return True
    except RefusedError:
        return False


async def reloaded(broker: FileBroker, login: Login, *, let_in: bool) -> None:
    """Have the broker read its files again, and return once somebody gets in, or does not."""
    os.kill(broker.process.pid, signal.SIGHUP)
    async with asyncio.timeout(WITHIN):
        while gets_in(broker, login) is not let_in:  # noqa: ASYNC110 - the broker does not tell when it has read them
            await asyncio.sleep(0.01)


def up(device_id: str) -> str:
    """Return a device's topic up."""
    return f"{PREFIX}/v1/{device_id}/up/telemetry"


def test_files_are_private(folder: Path) -> None:
    """Nobody else can read them, and no password is in them."""
    assert write(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {PASSWORDS: 0o600, RULES: 0o600}
    for account in (FIRST, SECOND):
        assert account.password is not None
        assert account.password.encode() not in read(folder)[0].split(b"$")
    assert users(folder) == sorted([HUB.username, FIRST.username, SECOND.username])


def test_nothing_changes_where_nothing_changed(folder: Path) -> None:
    """The files stay as they are, to the byte."""
    assert write(folder)
    before, touched = read(folder), (folder / PASSWORDS).stat().st_mtime_ns
    assert not write(folder)
    assert read(folder) == before
    assert (folder / PASSWORDS).stat().st_mtime_ns == touched


def test_who_is_shut_is_left_out(folder: Path) -> None:
    """Who is disabled, or has no password, is in no password file, and who is disabled in no rule."""
    assert write(folder)
    assert write(folder, (FIRST, SHUT, BY_CERTIFICATE))
    assert users(folder) == [HUB.username, FIRST.username]
    rules = read(folder)[1].decode()
    assert "user tent-2\n" in rules
    assert "user tent-2.k1\n" not in rules
    assert write(folder)
    assert users(folder) == [HUB.username, FIRST.username, SECOND.username]


def test_other_hash_for_another_password(folder: Path) -> None:
    """A hash is kept while it holds: the hub with another password would be locked out by the old one."""
    assert write(folder)
    before = (folder / PASSWORDS).read_text(encoding="utf-8").splitlines()
    assert write(folder, hub=Login(HUB.username, "another"))
    after = (folder / PASSWORDS).read_text(encoding="utf-8").splitlines()
    assert [line.partition(":")[0] for line in after if line not in before] == [HUB.username]
    assert len(after) == 3


@pytest.mark.parametrize("damage", [b"tent-1.k1:plain\n", b"\xff\xfe\n", b"tent-1.k1:$7$101$AAAA$AAAA\n", b""])
def test_damaged_file_is_made_anew(folder: Path, damage: bytes) -> None:
    """What is not of our making is replaced."""
    assert write(folder)
    (folder / PASSWORDS).write_bytes(damage)
    assert write(folder)
    assert users(folder) == [HUB.username, FIRST.username, SECOND.username]
    assert not write(folder)


def test_rules_alone_have_changed(folder: Path) -> None:
    """Rules that somebody changed are put right, and that is told."""
    assert write(folder)
    before = read(folder)
    (folder / RULES).write_text("topic readwrite #\n", encoding="utf-8")
    assert write(folder)
    assert read(folder) == before


def test_hub_without_an_account(folder: Path) -> None:
    """Without an account for the hub nobody may do anything, which is better than everybody everything."""
    assert write(folder, hub=None)
    assert users(folder) == [FIRST.username, SECOND.username]
    assert read(folder)[1] == b""
    assert write(folder, hub=Login(HUB.username, None))
    assert users(folder) == [FIRST.username, SECOND.username]


@pytest.mark.parametrize("name", ["home assistant", "home:assistant", "büro", "home\nuser tent-1"])
def test_name_of_the_hub_that_the_files_cannot_hold(folder: Path, name: str) -> None:
    """What would end a line early, or be read as something else, is told in a sentence, and nothing is written."""
    with pytest.raises(BrokerError, match="the files cannot hold the user name of Home Assistant") as refused:
        write(folder, hub=Login(name, "the hub's own"))
    assert "the hub's own" not in str(refused.value)
    assert not folder.exists()


def test_folder_that_is_none(folder: Path) -> None:
    """A file in the place of the folder is an error of the disk."""
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="broker"):
        write(folder)


async def test_broker_goes_by_the_files(broker: FileBroker) -> None:
    """Each device publishes its own and hears its own; the hub does everything."""
    logins = {account.device_id: Login(account.username, account.password) for account in (FIRST, SECOND)}
    with connect(broker, "hub", HUB) as hub:
        assert hub.subscribe("#") < REFUSED
        for mine, other in (("tent-1", "tent-2"), ("tent-2", "tent-1")):
            with connect(broker, mine, logins[mine]) as device:
                assert device.publish(up(other), b"forged") == NOT_AUTHORIZED
                assert device.publish("homeassistant/sensor/x/config", b"forged") == NOT_AUTHORIZED
                assert device.publish(up(mine), b"genuine") < REFUSED
            message = hub.receive(WITHIN)
            assert message is not None
            assert (message.topic, message.payload) == (up(mine), b"genuine")
        with connect(broker, "tent-1", logins["tent-1"]) as device:
            device.subscribe("#")
            device.subscribe(f"{PREFIX}/v1/tent-1/down/command")
            for target in ("tent-2", "tent-1"):
                assert hub.publish(f"{PREFIX}/v1/{target}/down/command", target.encode()) < REFUSED
            message = device.receive(WITHIN)
            assert message is not None
            assert message.payload == b"tent-1"


async def test_broker_reads_them_again(broker: FileBroker, folder: Path) -> None:
    """After SIGHUP who was removed does not get in, and who is new does; until then it is as before."""
    first, second = (Login(each.username, each.password) for each in (FIRST, SECOND))
    assert gets_in(broker, second)
    assert write(folder, (FIRST, SHUT))
    assert gets_in(broker, second)
    await reloaded(broker, second, let_in=False)
    assert gets_in(broker, first)
    assert gets_in(broker, HUB)
    assert write(folder)
    await reloaded(broker, second, let_in=True)
    changed = Login(HUB.username, "another")
    assert write(folder, hub=changed)
    await reloaded(broker, changed, let_in=True)
    assert not gets_in(broker, HUB)
