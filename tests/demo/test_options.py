"""The command line of the demo."""

from pathlib import Path

import pytest

from tests.stack.brokers import AmqttBroker, DynamicMosquittoBroker, MosquittoBroker
from tests.stack.components import ComponentMissingError

from .options import parse


@pytest.mark.parametrize(
    ("found", "plugin", "broker"),
    [
        (Path("mosquitto"), Path("dynamic_security.so"), DynamicMosquittoBroker),
        (Path("mosquitto"), None, MosquittoBroker),
        (None, None, AmqttBroker),
    ],
)
def test_broker_is_what_is_there(
    monkeypatch: pytest.MonkeyPatch, found: Path | None, plugin: Path | None, broker: type
) -> None:
    """Mosquitto if it is installed, with its plugin if that is there, too; else aMQTT."""
    monkeypatch.setattr(MosquittoBroker, "find", staticmethod(lambda: found))
    monkeypatch.setattr(DynamicMosquittoBroker, "find_plugin", staticmethod(lambda: plugin))
    assert parse([]).broker is broker
    assert parse(["--broker", "amqtt"]).broker is AmqttBroker


def test_missing_broker_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who insists on Mosquitto is told that it is not there."""
    monkeypatch.setattr(MosquittoBroker, "find", staticmethod(lambda: None))
    with pytest.raises(ComponentMissingError, match="not installed"):
        parse(["--broker", "mosquitto"])


def test_paths_are_the_callers(tmp_path: Path) -> None:
    """scripts/demo goes to the repository, but a file is named from where the caller is."""
    (tmp_path / "room.csv").touch()
    options = parse(["--broker", "amqtt", "--called-from", str(tmp_path), "--replay", "room.csv", "--keep", "kept"])
    assert options.replay == tmp_path / "room.csv"
    assert options.keep == tmp_path / "kept"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--replay", "missing.csv"],
        ["--check", "--replay", "room.csv"],
        ["--speed", "0"],
        ["--speed", "nan"],
        ["--keep", "full"],
        ["--keep", "room.csv"],
    ],
)
def test_impossible_wishes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """With a message, before anything is started."""
    (tmp_path / "room.csv").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    with pytest.raises(SystemExit) as ended:
        parse(["--called-from", str(tmp_path), *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err
