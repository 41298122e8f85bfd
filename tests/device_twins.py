"""The same device twice: the simulated one, and the outputs of the examples. Whatever happens, they do the same."""

from collections.abc import Mapping
from typing import Any

import jwt

from examples.devices.grokmon_outputs import Outputs as ExampleOutputs

from .device_simulator.actuators import Outputs, specs_from
from .device_simulator.credentials import DeviceIdentity, generate_root_key
from .device_simulator.fake_hub import ulid
from .device_simulator.protocol import DeviceProtocol
from .device_simulator.signing import derive_keys

TOPIC = "grokmon/v1/tent-1/down/"
SETTINGS: dict[str, dict[str, Any]] = {
    "lamp": {"kind": "light", "min_percent": 10, "max_percent": 80},
    "exhaust": {"kind": "fan", "safe_percent": 20, "min_percent": 0, "max_percent": 100},
    "humidifier": {"kind": "switch"},
    "pump": {"kind": "pump", "ml_per_s": 25.0, "max_run_s": 30},
}
# The hub's clock when the device's own shows nothing.
EPOCH_S = 1_763_850_000

type Observed = tuple[bool, float, str, str | None]


class Twins:
    """Tell both the same, and hold their answers against each other. Time passes in whole milliseconds."""

    def __init__(self) -> None:
        root = generate_root_key()
        _, self._key = derive_keys(root)
        self.now_ms = 100_000
        self.protocol = DeviceProtocol(
            DeviceIdentity.from_root_key("tent-1", root), outputs=Outputs(specs_from(SETTINGS))
        )
        self.moves: list[tuple[str, bool, float | None]] = []
        self.simulated_moves: list[tuple[str, bool, float | None]] = []
        self.example = ExampleOutputs(SETTINGS, self._applied, lambda: None, lambda: self.now_ms)
        self.protocol.outputs.on_output = lambda *move: self.simulated_moves.append(move)
        self.moves.clear()
        self.sid, self.seq = "", 0

    @property
    def now(self) -> float:
        """Give the device's clock in seconds."""
        return self.now_ms / 1000

    @property
    def hub_time(self) -> int:
        """Give the hub's clock as it writes it."""
        return EPOCH_S + self.now_ms // 1000

    def open(self, sid: str, told: int | None = None) -> None:
        """Connect, say hello, and take the answer."""
        if sid != self.sid:
            self.sid, self.seq = sid, 0
        told = self.hub_time if told is None else told
        self.protocol.connected(self.now)
        self.protocol.hello(self.now)
        self.protocol.receive(self._signed("session", {"boot": self.protocol.boot, "sid": sid, "time": told}), self.now)
        self.example.session(sid, told)

    def tick(self, milliseconds: int = 0) -> None:
        """Let time pass, and let the devices look at the clock."""
        self.now_ms += milliseconds
        self.protocol.expire(self.now)
        self.example.tick()
        self.agree()

    def claims(
        self,
        action: Any,
        actuator: Any = None,
        params: Any = None,
        *,
        lease_s: Any = None,
        **overrides: Any,
    ) -> dict[str, Any]:
        """Give the claims of the next command."""
        self.seq += 1
        claims = {
            "iss": "grokmon",
            "aud": TOPIC + "command",
            "iat": self.hub_time,
            "sid": self.sid,
            "seq": self.seq,
            "cid": ulid(),
            "ttl_s": 10,
            "action": action,
            "params": {} if params is None else params,
        }
        if actuator is not None:
            claims["actuator"] = actuator
        if lease_s is not None:
            claims["lease_s"] = lease_s
        return claims | overrides

    def take(self, claims: Mapping[str, Any]) -> bool:
        """Have both take a command; tell whether they took it for one that came too late."""
        answer = self.protocol.receive_command(self._signed("command", claims), self.now)
        late = self.example.command(dict(claims))
        assert late == (answer is not None and answer.reason == "expired")
        self.agree()
        return late

    def command(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Give a command; return the body of the answer."""
        self.take(self.claims(*args, **kwargs))
        return [body for channel, body in self.hear() if channel == "ack"][-1]

    def by_hand(self, name: str, *, on: bool, percent: float = 0.0) -> None:
        """Turn a knob on both."""
        self.protocol.by_hand(name, self.now, on=on, percent=percent)
        self.example.by_hand(name, on=on, percent=percent)
        self.agree()

    def hear(self) -> list[tuple[str, dict[str, Any]]]:
        """Take all that both have to say, which is the same."""
        heard = []
        while (message := self.protocol.next_answer(self.now)) is not None:
            channel, payload = message
            claims = jwt.decode(payload, options={"verify_signature": False})
            body = {name: value for name, value in claims.items() if name not in {"iss", "aud"}}
            self.protocol.confirmed()
            assert (channel, body) == self.example.next_message()
            heard.append((channel, body))
        assert self.example.next_message() is None
        return heard

    def agree(self) -> None:
        """Hold the pins of both against each other."""
        assert self.moves == self.simulated_moves

    def observe(self) -> dict[str, Observed]:
        """Give what the outputs do."""
        outputs = self.protocol.outputs.outputs
        return {name: (each.on, each.percent, each.reason, each.cid) for name, each in outputs.items()}

    def leases(self) -> dict[str, float | None]:
        """Give when the leases end, on the device's clock."""
        return {name: each.lease_ends for name, each in self.protocol.outputs.outputs.items()}

    def _applied(self, name: str, on: bool, percent: float | None) -> None:
        self.moves.append((name, on, percent))

    def _signed(self, channel: str, claims: Mapping[str, Any]) -> bytes:
        whole = {"iss": "grokmon", "aud": TOPIC + channel, **claims}
        return jwt.encode(whole, self._key, algorithm="HS256").encode()
