"""A grokmon device in Python: signed readings over MQTT, and outputs. Needs paho-mqtt 2 and nothing else.

Take the class GrokmonDevice into your own program, or run this file: python grokmon_device.py settings.json
A device with outputs needs grokmon_outputs.py beside it.
"""

import argparse
import base64
from collections import deque
from dataclasses import dataclass
import hmac
import json
import math
import os
from pathlib import Path
import random
import signal
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from grokmon_outputs import Outputs

FIRMWARE = "v1.0.0"
KEPT_READINGS, KEPT_SECONDS = 32, 300
HELLO_EVERY = 5
HEADER = b'{"alg":"HS256","typ":"JWT"}'
# What Ctrl-C, Ctrl-\, systemd and a closed terminal send, and Ctrl-Z: a halted program ends nothing. Windows knows two.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP")
STOPS = [number for name in NAMES if (number := getattr(signal, name, None)) is not None]


def encode(data: bytes) -> bytes:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def decode(text: bytes) -> bytes:
    """Decode base64url without padding."""
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def sign(claims: dict[str, Any], key: bytes) -> bytes:
    """Make a JSON Web Token with HMAC-SHA256."""
    signed = encode(HEADER) + b"." + encode(json.dumps(claims, allow_nan=False).encode())
    return signed + b"." + encode(hmac.digest(key, signed, "sha256"))


def verify(token: bytes, key: bytes, topic: str) -> dict[str, Any] | None:
    """Give the claims of a message from Home Assistant for this topic; None if it is not genuine."""
    # The algorithm is this one, whatever the header of the token says.
    signed, _, signature = token.rpartition(b".")
    if not hmac.compare_digest(signature, encode(hmac.digest(key, signed, "sha256"))):
        return None
    claims: dict[str, Any] = json.loads(decode(signed.partition(b".")[2]))
    return claims if (claims.get("iss"), claims.get("aud")) == ("grokmon", topic) else None


@dataclass
class Reading:
    """Keep what was measured until it is delivered, and a while longer."""

    taken: float
    metrics: dict[str, float | bool]
    ts: int | None = None
    delivered: bool = False


class GrokmonDevice:
    """Speak the protocol: hello, session, signed telemetry, resend, commands. Works while `run` is called."""

    def __init__(self, settings: dict[str, Any], outputs: "Outputs | None" = None) -> None:
        self.ready = False
        self._outputs = outputs
        self._settings = settings
        root = decode(settings["key"].encode())
        self._key_up = hmac.digest(root, b"grokmon/v1/up", "sha256")
        self._key_down = hmac.digest(root, b"grokmon/v1/down", "sha256")
        self._topic = f"{settings.get('prefix', 'grokmon')}/v1/{settings['device_id']}/"
        self._boot = encode(os.urandom(16)).decode()
        self._sid, self._seq = "", 0
        self._kept: deque[Reading] = deque(maxlen=KEPT_READINGS)
        # What the broker has not confirmed, as (topic, token, reading or None), and its number at this connection.
        self._in_flight: tuple[str, bytes, Reading | None] | None = None
        self._mid = 0
        self._hello_at, self._last_hello = math.inf, -math.inf
        self._last_heard, self._clock_set_to, self._clock_offset = 0, 0, 0.0
        self._connect_at, self._delay = 0.0, 1
        self._client = self._new_client()
        if outputs:
            outputs.guard()

    def report(self, metrics: dict[str, float | bool]) -> None:
        """Queue a reading; a sensor that failed gives NaN and is left out."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if finite:
            self._kept.append(Reading(time.monotonic(), finite))

    def run(self, seconds: float) -> None:
        """Do for some time whatever the connection asks for; call this instead of time.sleep."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._work()
            if self._client.loop(min(left, 0.2)) != mqtt.MQTT_ERR_SUCCESS:
                self._connect(left)

    @property
    def pending(self) -> int:
        """Count the readings that are not delivered."""
        return sum(not reading.delivered for reading in self._kept)

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, self._settings["device_id"])
        client.username_pw_set(self._settings["username"], self._settings["password"])
        client.tls_set_context(ssl.create_default_context(cafile=self._settings["ca_file"]))
        client.will_set(self._topic + "up/status", "offline", qos=1)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_publish = self._published
        return client

    def _connect(self, patience: float) -> None:
        now = time.monotonic()
        if now < self._connect_at:
            time.sleep(min(patience, self._connect_at - now))
            return
        self._connect_at, self._delay = now + self._delay, min(self._delay * 2, 60)
        try:
            # A client that was connected before repeats by itself what was not confirmed, old hellos and all.
            self._client = self._new_client()
            self._client.connect(self._settings["host"], self._settings.get("port", 8883))
        except OSError as error:
            print("no connection:", error)

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            print("the broker refuses the connection:", reason)
            return
        if self._outputs:
            client.subscribe(self._topic + "down/command", qos=1)
        client.subscribe(self._topic + "down/session", qos=1)
        self._hello_at = max(time.monotonic(), self._last_hello + HELLO_EVERY)
        self._mid = 0

    def _disconnected(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        print("disconnected:", reason)
        self.ready, self._hello_at = False, math.inf

    def _received(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        claims = verify(message.payload, self._key_down, message.topic)
        if claims is None:
            print("ignored a message that is not Home Assistant's")
        elif message.topic == self._topic + "down/command":
            self._commanded(claims)
        elif claims.get("hello"):
            self._asked_for_hello(claims)
        elif self._is_awaited(claims):
            self._start_session(claims)

    def _is_awaited(self, claims: dict[str, Any]) -> bool:
        mine = claims.get("boot") == self._boot and self._hello_at < math.inf
        return mine and (not self.ready or claims["time"] > self._last_heard)

    def _commanded(self, claims: dict[str, Any]) -> None:
        if self._outputs and self._outputs.command(claims):
            print("a command came too late")
            self._hello_at = max(time.monotonic(), self._last_hello + HELLO_EVERY)

    def _asked_for_hello(self, claims: dict[str, Any]) -> None:
        # With a session: only about the present one. Without: only if newer than all heard, or it could be replayed.
        if claims["sid"] != self._sid if "sid" in claims else claims["time"] <= self._last_heard:
            return
        self._last_heard = max(self._last_heard, claims["time"])
        self._forget_session()
        self._hello_at = max(time.monotonic(), self._last_hello + HELLO_EVERY)

    def _start_session(self, claims: dict[str, Any]) -> None:
        if claims["sid"] != self._sid:
            self._forget_session()
            self._sid, self._in_flight = claims["sid"], None
        # An answer that is played back does not set the clock.
        if claims["time"] > self._clock_set_to:
            self._clock_set_to, self._clock_offset = claims["time"], claims["time"] - time.monotonic()
        self._last_heard = max(self._last_heard, claims["time"])
        if self._outputs:
            self._outputs.session(self._sid, claims["time"])
        # Only now: a broker that lets go again and again is left in peace for longer and longer.
        self.ready, self._hello_at, self._delay = True, math.inf, 1
        print("session", self._sid)

    def _forget_session(self) -> None:
        # Nobody knows since when Home Assistant has not listened: all that is kept goes out again.
        self.ready = False
        for reading in self._kept:
            reading.delivered = False

    def _published(self, _client: mqtt.Client, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        if self._in_flight is not None and mid == self._mid:
            reading = self._in_flight[2]
            if reading is not None:
                reading.delivered = self.ready
            self._in_flight = None

    def _work(self) -> None:
        now = time.monotonic()
        while self._kept and now - self._kept[0].taken > KEPT_SECONDS:
            self._kept.popleft()
        if now >= self._hello_at:
            print("hello")
            self._last_hello, self._hello_at = now, now + HELLO_EVERY
            hello = {"boot": self._boot, "firmware": FIRMWARE, "model": "Python example"}
            self._client.publish(*self._signed("hello", hello), qos=1)
        elif self.ready and self._in_flight is not None and not self._mid:
            self._send_again(*self._in_flight)
        # One message in flight: then a repeat by the transport is always one of the last message.
        elif self.ready and self._in_flight is None:
            message = self._outputs.next_message() if self._outputs else None
            reading = next((reading for reading in self._kept if not reading.delivered), None)
            if message is not None:
                self._send(*self._signed(*message), None)
            elif reading is not None:
                reading.ts = reading.ts or int(self._clock_offset + reading.taken)
                self._seq += 1
                body = {"sid": self._sid, "seq": self._seq, "ts": reading.ts, "metrics": reading.metrics}
                self._send(*self._signed("telemetry", body), reading)

    def _signed(self, channel: str, body: dict[str, Any]) -> tuple[str, bytes]:
        topic = f"{self._topic}up/{channel}"
        return topic, sign({"iss": self._settings["device_id"], "aud": topic} | body, self._key_up)

    def _send_again(self, topic: str, token: bytes, reading: Reading | None) -> None:
        self._in_flight = None
        # As the same bytes, which Home Assistant takes once. A state is made anew, and a reading may be too old by now.
        if topic.endswith("/ack") or reading in self._kept:
            self._send(topic, token, reading)

    def _send(self, topic: str, token: bytes, reading: Reading | None) -> None:
        self._in_flight = topic, token, reading
        self._mid = self._client.publish(topic, token, qos=1).mid


def apply(name: str, on: bool, percent: float | None) -> None:
    """Tell what an output is to do; drive yours instead."""
    print("output", name, "on" if on else "off", "" if percent is None else percent)


def stop(number: int, _: object) -> None:
    """End the program in order; of all signals only the first one does."""
    ignore_signals()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(0)


def ignore_signals() -> None:
    """Let nothing come between the outputs and their rest: a closed terminal may be told of twice."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """Send made-up readings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", type=Path)
    parser.add_argument("--interval", type=float, default=10, help="seconds between readings")
    parser.add_argument("--count", type=int, default=10**9, help="stop when so many readings are delivered")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings.read_text())
    outputs = None
    if settings.get("actuators"):
        from grokmon_outputs import Outputs  # noqa: PLC0415 - a device without outputs does without the file

        outputs = Outputs(settings["actuators"], apply)
    device = GrokmonDevice(settings, outputs)
    # None of them may leave anything on. With nohup the program outlives the terminal.
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        for _ in range(arguments.count):
            temp_c, humidity = round(random.gauss(24, 0.2), 2), round(random.gauss(60, 1), 1)
            device.report({"temp_c": temp_c, "humidity_percent": humidity})
            device.run(arguments.interval)
        while device.pending:
            device.run(0.1)
    finally:
        # A signal that comes just now ends this line, not what follows.
        try:
            ignore_signals()
        finally:
            if outputs:
                outputs.rest()


if __name__ == "__main__":
    main()
