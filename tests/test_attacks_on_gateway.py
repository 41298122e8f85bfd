"""Every attack of the catalogue against the gateway in memory: refused, and with the code that it says."""

import time

import pytest

from custom_components.grokmon.gateway import credentials
from custom_components.grokmon.gateway.envelope import encode_base64url
from custom_components.grokmon.gateway.errors import GatewayError
from custom_components.grokmon.gateway.models import Algorithm, Device, Greeting, Message, Reading
from custom_components.grokmon.gateway.pipeline import Gateway, Incoming
from tests.device_simulator.attacks import ATTACKS, Attack, Scene
from tests.device_simulator.credentials import ALGORITHMS, Auth, DeviceIdentity, generate_key_pair, public_pem
from tests.device_simulator.protocol import DeviceProtocol

NOW = time.time()


class Site:
    """A gateway with an insider, a victim and a device with a public key, the first two in a session."""

    def __init__(self, auth: Auth) -> None:
        site_keys = {name: credentials.new_site_key(name) for name in (Algorithm.ES256, Algorithm.EDDSA)}
        self.gateway = Gateway("grokmon", NOW, site_keys)
        insider, _ = self.enrol("insider", auth)
        victim, _ = self.enrol("victim", auth)
        key_pair_victim, public_key = self.enrol("key-pair", "es256" if auth == "hs256" else auth)
        talking = self.greeted(victim)
        captured = [self.reads(talking) for _ in range(3)]
        self.scene = Scene(
            self.greeted(insider),
            victim,
            captured=captured[:-1],
            key_pair_victim=key_pair_victim,
            public_pem=public_key,
            now=lambda: NOW,
        )

    def enrol(self, device_id: str, auth: Auth) -> tuple[DeviceIdentity, str]:
        """Enrol a device; return its identity and, where it has one, its public key."""
        algorithm = Algorithm(ALGORITHMS[auth])
        private_key = None if auth == "hs256" else generate_key_pair(auth)
        pem = public_pem(private_key) if private_key is not None else ""
        credential = credentials.issue(algorithm, NOW, pem)
        device = Device(device_id=device_id, name=device_id, metrics=frozenset({"temp_c"}), credentials=(credential,))
        self.gateway.admit(device)
        if private_key is None:
            return DeviceIdentity.from_root_key(device_id, encode_base64url(credential.secret).decode()), ""
        site_key = credentials.public_pem(self.gateway.site_keys[algorithm])
        return DeviceIdentity(device_id, auth, "grokmon", private_key, site_key), pem

    def greeted(self, identity: DeviceIdentity) -> DeviceProtocol:
        """Return a device in a session."""
        protocol = DeviceProtocol(identity)
        protocol.connected(0.0)
        greeting = self.receives(identity.up("hello"), protocol.hello(0.0))
        assert isinstance(greeting, Greeting)
        protocol.receive(greeting.answer.payload, 0.1)
        assert protocol.ready
        return protocol

    def reads(self, protocol: DeviceProtocol) -> bytes:
        """Have a device send one reading, which is accepted; return the message."""
        protocol.take({"temp_c": 20.5}, 1.0)
        message = protocol.next_message(1.0)
        assert message is not None
        protocol.acknowledged(message[0])
        self.receives(protocol.identity.up("telemetry"), message[1])
        return message[1]

    def receives(self, topic: str, payload: bytes, *, retained: bool = False) -> Incoming:
        """Hand a message to the gateway."""
        _, _, device_id, _, channel = topic.split("/")
        return self.gateway.ingest(Message(device_id, channel, payload, retained), NOW)


@pytest.mark.parametrize("auth", ["hs256", "es256", "eddsa"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_refuses(attack: Attack, auth: Auth) -> None:
    """The message is refused with its own code, and what was genuine before it was accepted."""
    site = Site(auth)
    forgery = attack.build(site.scene)
    for genuine in forgery.prelude:
        site.receives(forgery.topic, genuine)
    accepted = site.gateway.accepted.total()
    with pytest.raises(GatewayError) as refused:
        site.receives(forgery.topic, forgery.payload, retained=forgery.retain)
    assert refused.value.code == attack.expected
    assert site.gateway.accepted.total() == accepted


@pytest.mark.parametrize("auth", ["hs256", "es256", "eddsa"])
def test_goes_on_accepting_after_all_attacks(auth: Auth) -> None:
    """What was refused costs neither insider nor victim anything that they need."""
    site = Site(auth)
    for attack in ATTACKS:
        forgery = attack.build(site.scene)
        for payload in (*forgery.prelude, forgery.payload):
            try:
                site.receives(forgery.topic, payload, retained=forgery.retain)
            except GatewayError:
                continue
    site.scene.insider.take({"temp_c": 22.5}, 2.0)
    message = site.scene.insider.next_message(2.0)
    assert message is not None
    reading = site.receives(site.scene.topic, message[1])
    assert isinstance(reading, Reading)
    assert reading.values == {"temp_c": 22.5}
