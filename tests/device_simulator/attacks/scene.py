"""Who attacks whom, with what, and what comes out of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_urlsafe
import time
from typing import Any

from tests.device_simulator.credentials import DeviceIdentity
from tests.device_simulator.protocol import DeviceProtocol
from tests.device_simulator.signing import to_json

# Stands in the JSON where something goes that no serialiser would write.
HOLE = "\u2620"

type Build = Callable[[Scene], Forgery]


@dataclass(frozen=True, slots=True)
class Forgery:
    """One message as it goes to the broker."""

    topic: str
    payload: bytes
    retain: bool = False
    prelude: tuple[bytes, ...] = ()
    """Genuine messages of the insider that have to be accepted on the topic first."""


@dataclass(slots=True)
class Scene:
    """Hold everything that an attack can use. Insider and victim are enrolled with the same algorithm."""

    insider: DeviceProtocol
    """A device with a session; while its counters are spent here it must not publish by itself."""
    victim: DeviceIdentity
    """Only its name and topics are used, not its keys."""
    metric: str = "temp_c"
    """A number that the insider is granted."""
    not_granted: str = "ph"
    """A metric of the catalogue that the insider is not granted."""
    captured: Sequence[bytes] = ()
    """Telemetry of the victim that was accepted, without its latest."""
    key_pair_victim: DeviceIdentity | None = None
    """A device that enrolled a public key."""
    public_pem: str = ""
    """That public key, which is no secret."""
    now: Callable[[], float] = time.time

    @property
    def topic(self) -> str:
        """Name the insider's own topic."""
        return self.insider.identity.up("telemetry")

    @property
    def victim_topic(self) -> str:
        """Name the topic of the attacked device."""
        return self.victim.up("telemetry")

    def claims(self, **body: Any) -> dict[str, Any]:
        """Give claims of the insider that would be accepted, but for what the attack puts in."""
        return self.insider.telemetry_claims() | {"metrics": {self.metric: 21.5}} | body

    def victim_claims(self) -> dict[str, Any]:
        """Give claims that look like the victim's."""
        return {
            "iss": self.victim.device_id,
            "aud": self.victim_topic,
            "sid": token_urlsafe(12),
            "seq": 1,
            "metrics": {self.metric: 55.5},
        }

    def signed(self, claims: Mapping[str, Any]) -> Forgery:
        """Have the insider sign claims."""
        return Forgery(self.topic, self.insider.identity.sign(claims))

    def signed_bytes(self, payload: bytes) -> Forgery:
        """Have the insider sign bytes."""
        return Forgery(self.topic, self.insider.identity.sign_bytes(payload))

    def signed_metric(self, value: bytes) -> Forgery:
        """Have the insider sign a metric whose value no serialiser would write."""
        return self._with_hole_filled(value, metrics={self.metric: HOLE})

    def signed_meta(self, value: bytes) -> Forgery:
        """Have the insider sign a note whose value no serialiser would write."""
        return self._with_hole_filled(value, meta={"note": HOLE})

    def _with_hole_filled(self, value: bytes, **body: Any) -> Forgery:
        return self.signed_bytes(to_json(self.claims(**body)).replace(f'"{HOLE}"'.encode(), value))


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack and the code that must answer it."""

    name: str
    expected: str
    build: Build = field(repr=False)
    needs: str | None = None
    """An optional part of the scene without which this attack cannot be made."""

    def possible(self, scene: Scene) -> bool:
        """Tell whether the scene has what this attack needs."""
        return self.needs is None or bool(getattr(scene, self.needs))


class Catalogue:
    """Collect attacks, each named by the function that builds its message."""

    def __init__(self) -> None:
        self.attacks: list[Attack] = []

    def refused_as(self, expected: str, *, needs: str | None = None) -> Callable[[Build], Build]:
        """Enter the decorated function with the code that must answer it."""

        def enter(build: Build) -> Build:
            self.attacks.append(Attack(build.__name__.lstrip("_"), expected, build, needs))
            return build

        return enter


def without(claims: dict[str, Any], *names: str) -> dict[str, Any]:
    """Give the claims without some of them."""
    return {name: value for name, value in claims.items() if name not in names}
