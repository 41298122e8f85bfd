"""A grokmon device in MicroPython: signed readings over MQTT with TLS, and outputs. Needs no other module.

Take the class GrokmonDevice into your own program, or run this file: micropython grokmon_device.py settings.json
A device with outputs needs grokmon_outputs.py beside it.
"""

import binascii
import hashlib
import json
import math
import os
import random
import select
import socket
import sys
import time

import tls

FIRMWARE = "v1.0.0"
KEPT_READINGS, KEPT_MS = 32, 300_000
HELLO_EVERY_MS = 5_000
KEEPALIVE_S, TIMEOUT_S, MAX_PACKET = 30, 10, 4_096
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ = 0x10, 0x20, 0x30, 0x40, 0x80, 0xC0
QOS_1 = 0x02
HEADER = b'{"alg":"HS256","typ":"JWT"}'
NEVER = float("inf")


def encode(data: bytes) -> bytes:
    """Encode as base64url without padding."""
    return binascii.b2a_base64(data).rstrip(b"=\n").replace(b"+", b"-").replace(b"/", b"_")


def decode(text: bytes) -> bytes:
    """Decode base64url without padding."""
    return binascii.a2b_base64(text.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(text) % 4))


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """Authenticate a message (RFC 2104); all keys here are 32 bytes."""
    key += bytes(64 - len(key))
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
    inner.update(message)
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))
    outer.update(inner.digest())
    return outer.digest()


def equal(left: bytes, right: bytes) -> bool:
    """Compare in a time that does not tell where the first difference is."""
    return len(left) == len(right) and not sum(one ^ other for one, other in zip(left, right))


def sign(claims: dict, key: bytes) -> bytes:
    """Make a JSON Web Token with HMAC-SHA256."""
    signed = encode(HEADER) + b"." + encode(json.dumps(claims).encode())
    return signed + b"." + encode(hmac_sha256(key, signed))


def verify(token: bytes, key: bytes, topic: str) -> dict | None:
    """Give the claims of a message from Home Assistant for this topic; None if it is not genuine."""
    # The algorithm is this one, whatever the header of the token says.
    signed, _, signature = token.rpartition(b".")
    if not equal(signature, encode(hmac_sha256(key, signed))):
        return None
    claims = json.loads(decode(signed.partition(b".")[2]))
    return claims if claims.get("iss") == "grokmon" and claims.get("aud") == topic else None


def uptime_ms() -> int:
    """Give the milliseconds since the start; unlike ticks_ms it never wraps, if called every few days."""
    now = time.ticks_ms()
    _uptime[0] += time.ticks_diff(now, _uptime[1])
    _uptime[1] = now
    return _uptime[0]


_uptime = [0, time.ticks_ms()]


class Mqtt:
    """Speak as much MQTT 3.1.1 as a device needs. Everything raises OSError when the connection is lost."""

    def __init__(self) -> None:
        self._socket = self._tls = socket.socket()
        self._poll = select.poll()
        self._mid = 0

    def connect(self, settings: dict, will_topic: str) -> None:
        """Connect to the broker that holds a certificate of this authority for this host."""
        with open(settings["ca_file"]) as file:
            certificate = file.read().split("-----")[2]
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        context.load_verify_locations(binascii.a2b_base64(certificate))
        host, port = settings["host"], settings.get("port", 8883)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][-1])
        try:
            self._tls = context.wrap_socket(self._socket, server_hostname=host)
        except ValueError as error:
            raise OSError(str(error).strip()) from None
        self._poll.register(self._tls, select.POLLIN)
        # Clean session, will with QoS 1, user name, password.
        start = b"\x00\x04MQTT\x04\xce" + KEEPALIVE_S.to_bytes(2, "big")
        for part in settings["device_id"], will_topic, "offline", settings["username"], settings["password"]:
            start += self._text(part)
        self._send(CONNECT, start)
        kind, answer = self._packet(self._read(1))
        if kind != CONNACK or answer[1]:
            raise OSError("the broker refuses the connection: " + str(answer[1]))

    def close(self) -> None:
        """Close without a word, so that the broker publishes the will."""
        self._tls.close()

    def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1."""
        self._mid = self._mid % 65_535 + 1
        self._send(SUBSCRIBE | QOS_1, self._mid.to_bytes(2, "big") + self._text(topic) + b"\x01")

    def publish(self, topic: str, payload: bytes) -> int:
        """Publish with QoS 1 and give the number that the broker's answer will carry."""
        self._mid = self._mid % 65_535 + 1
        self._send(PUBLISH | QOS_1, self._text(topic) + self._mid.to_bytes(2, "big") + payload)
        return self._mid

    def receive(self, wait_ms: int) -> tuple:
        """Give (PUBACK, number), (PUBLISH, (topic, payload)) or, when neither comes in time, (None, None)."""
        now = uptime_ms()
        if now - self._heard_at > (KEEPALIVE_S + TIMEOUT_S) * 1000:
            raise OSError("the broker is silent")
        if now - self._sent_at > KEEPALIVE_S * 500:
            self._send(PINGREQ, b"")
        if not self._poll.poll(wait_ms):
            return None, None
        # What arrived may be of TLS alone: only what follows a first byte is worth waiting for.
        self._socket.settimeout(0)
        first = self._tls.read(1)
        self._socket.settimeout(TIMEOUT_S)
        kind, body = (None, None) if first is None else self._packet(first)
        if kind == PUBACK:
            return PUBACK, int.from_bytes(body, "big")
        if kind is None or kind & 0xF0 != PUBLISH:
            return None, None
        end = 2 + int.from_bytes(body[:2], "big")
        topic = body[2:end].decode()
        if kind & QOS_1:
            self._send(PUBACK, body[end : end + 2])
            end += 2
        return PUBLISH, (topic, body[end:])

    def _packet(self, first: bytes) -> tuple:
        size = self._read(1)[0]
        if size & 0x80:
            size += (self._read(1)[0] - 1) << 7
        if size > MAX_PACKET:
            raise OSError("the broker sends too much")
        self._heard_at = uptime_ms()
        return first[0], self._read(size)

    def _read(self, size: int) -> bytes:
        data = self._tls.read(size) if size else b""
        if data is None or len(data) < size:
            raise OSError("connection lost")
        return data

    def _send(self, kind: int, body: bytes) -> None:
        size = len(body)
        head = bytes([kind, size & 0x7F | 0x80, size >> 7] if size >> 7 else [kind, size])
        self._tls.write(head + body)
        self._sent_at = uptime_ms()

    @staticmethod
    def _text(text: str) -> bytes:
        data = text.encode()
        return len(data).to_bytes(2, "big") + data


class GrokmonDevice:
    """Speak the protocol: hello, session, signed telemetry, resend, commands. Works while `run` is called."""

    def __init__(self, settings: dict, outputs: object = None) -> None:
        self.ready = False
        self._outputs = outputs
        self._settings = settings
        root = decode(settings["key"].encode())
        self._key_up = hmac_sha256(root, b"grokmon/v1/up")
        self._key_down = hmac_sha256(root, b"grokmon/v1/down")
        self._topic = settings.get("prefix", "grokmon") + "/v1/" + settings["device_id"] + "/"
        self._boot = encode(os.urandom(16)).decode()
        self._sid, self._seq = "", 0
        self._kept = []
        # What the broker has not confirmed, as (topic, token, reading or None), and its number at this connection.
        self._in_flight, self._mid = None, 0
        self._hello_at, self._last_hello = NEVER, -NEVER
        self._last_heard = self._clock_set_to = self._clock_offset = 0
        self._mqtt, self._connect_at, self._delay = None, 0, 1_000
        if outputs:
            outputs.guard()

    def report(self, metrics: dict) -> None:
        """Queue a reading; a sensor that failed gives NaN and is left out."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if finite:
            reading = {"taken": uptime_ms(), "metrics": finite, "ts": None, "delivered": False}
            self._kept = self._kept[1 - KEPT_READINGS :]
            self._kept.append(reading)

    def run(self, seconds: float) -> None:
        """Do for some time whatever the connection asks for; call this instead of time.sleep."""
        end = uptime_ms() + int(seconds * 1000)
        while (left := end - uptime_ms()) > 0:
            try:
                if self._mqtt is None:
                    self._connect(left)
                else:
                    self._work()
                    self._received(*self._mqtt.receive(min(left, 200)))
            except OSError as error:
                print("no connection:", error)
                self._disconnected()

    def pending(self) -> int:
        """Count the readings that are not delivered."""
        return sum(not reading["delivered"] for reading in self._kept)

    def _connect(self, patience_ms: int) -> None:
        now = uptime_ms()
        if now < self._connect_at:
            time.sleep_ms(min(patience_ms, self._connect_at - now))
            return
        self._connect_at, self._delay = now + self._delay, min(self._delay * 2, 60_000)
        self._mqtt = Mqtt()
        self._mqtt.connect(self._settings, self._topic + "up/status")
        if self._outputs:
            self._mqtt.subscribe(self._topic + "down/command")
        self._mqtt.subscribe(self._topic + "down/session")
        self._hello_at = max(uptime_ms(), self._last_hello + HELLO_EVERY_MS)
        self._mid = 0

    def _disconnected(self) -> None:
        if self._mqtt is not None:
            self._mqtt.close()
        self._mqtt = None
        self.ready, self._hello_at = False, NEVER

    def _received(self, kind: int | None, content: int | tuple | None) -> None:
        if kind == PUBACK and self._in_flight is not None and content == self._mid:
            reading = self._in_flight[2]
            if reading is not None:
                reading["delivered"] = self.ready
            self._in_flight = None
        elif kind == PUBLISH:
            topic, payload = content
            claims = verify(payload, self._key_down, topic)
            if claims is None:
                print("ignored a message that is not Home Assistant's")
            elif topic == self._topic + "down/command":
                self._commanded(claims)
            elif claims.get("hello"):
                self._asked_for_hello(claims)
            elif self._is_awaited(claims):
                self._start_session(claims)

    def _is_awaited(self, claims: dict) -> bool:
        mine = claims.get("boot") == self._boot and self._hello_at != NEVER
        return mine and (not self.ready or claims["time"] > self._last_heard)

    def _commanded(self, claims: dict) -> None:
        if self._outputs and self._outputs.command(claims):
            print("a command came too late")
            self._hello_at = max(uptime_ms(), self._last_hello + HELLO_EVERY_MS)

    def _asked_for_hello(self, claims: dict) -> None:
        # With a session: only about the present one. Without: only if newer than all heard, or it could be replayed.
        if claims["sid"] != self._sid if "sid" in claims else claims["time"] <= self._last_heard:
            return
        self._last_heard = max(self._last_heard, claims["time"])
        self._forget_session()
        self._hello_at = max(uptime_ms(), self._last_hello + HELLO_EVERY_MS)

    def _start_session(self, claims: dict) -> None:
        if claims["sid"] != self._sid:
            self._forget_session()
            self._sid, self._in_flight = claims["sid"], None
        # An answer that is played back does not set the clock.
        if claims["time"] > self._clock_set_to:
            self._clock_set_to, self._clock_offset = claims["time"], claims["time"] - uptime_ms() // 1000
        self._last_heard = max(self._last_heard, claims["time"])
        if self._outputs:
            self._outputs.session(self._sid, claims["time"])
        # Only now: a broker that lets go again and again is left in peace for longer and longer.
        self.ready, self._hello_at, self._delay = True, NEVER, 1_000
        print("session", self._sid)

    def _forget_session(self) -> None:
        # Nobody knows since when Home Assistant has not listened: all that is kept goes out again.
        self.ready = False
        for reading in self._kept:
            reading["delivered"] = False

    def _work(self) -> None:
        now = uptime_ms()
        self._kept = [reading for reading in self._kept if now - reading["taken"] <= KEPT_MS]
        if now >= self._hello_at:
            print("hello")
            self._last_hello, self._hello_at = now, now + HELLO_EVERY_MS
            hello = {"boot": self._boot, "firmware": FIRMWARE, "model": sys.platform}
            self._mqtt.publish(*self._signed("hello", hello))
        elif self.ready and self._in_flight is not None and not self._mid:
            self._send_again(*self._in_flight)
        # One message in flight: then a repeat by the transport is always one of the last message.
        elif self.ready and self._in_flight is None:
            message = self._outputs.next_message() if self._outputs else None
            if message is not None:
                self._send(*self._signed(*message), None)
                return
            for reading in self._kept:
                if not reading["delivered"]:
                    reading["ts"] = reading["ts"] or self._clock_offset + reading["taken"] // 1000
                    self._seq += 1
                    body = {"sid": self._sid, "seq": self._seq, "ts": reading["ts"], "metrics": reading["metrics"]}
                    self._send(*self._signed("telemetry", body), reading)
                    return

    def _signed(self, channel: str, body: dict) -> tuple:
        topic = self._topic + "up/" + channel
        body.update(iss=self._settings["device_id"], aud=topic)
        return topic, sign(body, self._key_up)

    def _send_again(self, topic: str, token: bytes, reading: dict | None) -> None:
        self._in_flight = None
        # As the same bytes, which Home Assistant takes once. A state is made anew, and a reading may be too old by now.
        if topic.endswith("/ack") or reading in self._kept:
            self._send(topic, token, reading)

    def _send(self, topic: str, token: bytes, reading: dict | None) -> None:
        # Noted before it is tried: the connection may break in between.
        self._in_flight = topic, token, reading
        self._mid = self._mqtt.publish(topic, token)


def apply(name: str, on: bool, percent: float | None) -> None:
    """Tell what an output is to do; drive yours instead."""
    print("output", name, "on" if on else "off", "" if percent is None else percent)


def main(path: str = "settings.json", interval: float = 10, count: int = 1_000_000_000) -> None:
    """Send made-up readings; read your sensors instead."""
    with open(path) as file:
        settings = json.load(file)
    outputs = None
    if settings.get("actuators"):
        from grokmon_outputs import Outputs  # noqa: PLC0415 - a device without outputs does without the file

        outputs = Outputs(settings["actuators"], apply)
    device = GrokmonDevice(settings, outputs)
    for _ in range(count):
        device.report({"temp_c": 22 + random.getrandbits(5) / 10, "humidity_percent": 55 + random.getrandbits(6) / 10})
        device.run(interval)
    while device.pending():
        device.run(0.1)


if __name__ == "__main__":
    # On a computer: settings file, seconds between readings, number of readings.
    main(*[convert(text) for convert, text in zip((str, float, int), sys.argv[1:])])
