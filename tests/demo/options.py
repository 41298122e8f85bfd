"""The command line of the demo."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.stack.brokers import AmqttBroker, Broker, DynamicMosquittoBroker, MosquittoBroker
from tests.stack.components import ComponentMissingError

_BROKERS: dict[str, type[Broker]] = {"mosquitto": MosquittoBroker, "amqtt": AmqttBroker}
_SPEED = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """Hold what the command line asks for."""

    broker: type[Broker]
    keep: Path | None
    json: bool
    check: bool
    replay: Path | None
    speed: float
    stay: bool


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; end with a message where it asks for something impossible."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="A grow room on this machine alone: a real Home Assistant with the integration, an MQTT broker "
        "with TLS, seven simulated devices in two tents, a dashboard, and an intruder. Ctrl-C ends everything.",
    )
    parser.add_argument(
        "--broker", choices=_BROKERS, help="which broker; by default Mosquitto if it is there, else aMQTT"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="use this new or empty folder, and keep it")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, for programs")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="look at everything without a person; exit code 0 or 1")
    mode.add_argument(
        "--replay", type=Path, metavar="FILE.csv", help="feed a recording of your own in place of all that"
    )
    parser.add_argument(
        "--speed", type=float, default=_SPEED, help="how much faster than recorded (default %(default)g)"
    )
    parser.add_argument("--stay", action="store_true", help="after a replay, stay until Ctrl-C")
    # scripts/demo goes to the repository; what the caller names is where the caller is.
    parser.add_argument("--called-from", type=Path, default=Path(), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    keep = None if given.keep is None else given.called_from / given.keep
    replay = None if given.replay is None else given.called_from / given.replay
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        parser.error(f"{given.keep} is not an empty folder")
    if replay is not None and not replay.is_file():
        parser.error(f"there is no file {given.replay}")
    if not given.speed > 0:
        parser.error("the speed is a positive number")
    return Options(
        broker=_broker(given.broker),
        keep=keep,
        json=given.json,
        check=given.check,
        replay=replay,
        speed=given.speed,
        stay=given.stay,
    )


def _broker(name: str | None) -> type[Broker]:
    if name is not None and _BROKERS[name] is MosquittoBroker and MosquittoBroker.find() is None:
        raise ComponentMissingError("mosquitto is not installed; --broker amqtt needs nothing")
    if name == AmqttBroker.name or MosquittoBroker.find() is None:
        return AmqttBroker
    # With its plugin the broker itself keeps devices apart.
    return MosquittoBroker if DynamicMosquittoBroker.find_plugin() is None else DynamicMosquittoBroker
