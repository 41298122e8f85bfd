"""Serve MQTT with aMQTT until a signal ends it: ``python -m tests.stack.brokers.amqtt_server SETTINGS.json``."""

import asyncio
import json
import logging
from pathlib import Path
import signal
import sys
from typing import Any

from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.contexts import BrokerConfig  # type: ignore[import-untyped]


async def serve(settings: dict[str, Any]) -> None:
    """Run the broker that the settings describe until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, ended.set)
    broker = Broker(BrokerConfig.from_dict(settings))
    await broker.start()
    await ended.wait()
    await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
