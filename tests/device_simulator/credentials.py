"""What a device holds to prove who it is and to know who speaks to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Any, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
import jwt
from jwt.api_jws import PyJWS

from .signing import b64encode, derive_keys

type Auth = Literal["hs256", "es256", "eddsa"]
type PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey

ALGORITHMS: dict[Auth, str] = {"hs256": "HS256", "es256": "ES256", "eddsa": "EdDSA"}
_JWS = PyJWS()


class DownlinkRefusedError(Exception):
    """A message that claims to come from the hub did not verify."""


def generate_root_key() -> str:
    """Make a root key of the form that enrolment shows."""
    return b64encode(token_bytes(32)).decode()


def generate_key_pair(auth: Auth) -> PrivateKey:
    """Make the key pair of a device that enrols its public key."""
    return generate_private_key(SECP256R1()) if auth == "es256" else Ed25519PrivateKey.generate()


def public_pem(key: PrivateKey) -> str:
    """Give the public half of a key pair in the form that enrolment takes."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def proof_of(key: PrivateKey, device_id: str) -> str:
    """Make what shows, with a request to be enrolled, that the device has the private half of its key."""
    algorithm = "ES256" if isinstance(key, EllipticCurvePrivateKey) else "EdDSA"
    return jwt.encode({"iss": device_id, "aud": "grokmon/enrolment"}, key, algorithm=algorithm)


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """Hold the name and the keys of one enrolled device."""

    device_id: str
    auth: Auth = "hs256"
    prefix: str = "grokmon"
    up_key: bytes | PrivateKey = field(default=b"", repr=False)
    """Signs what the device says."""
    down_key: bytes | str = field(default=b"", repr=False)
    """Verifies what the hub says: a derived key, or the site's public key as PEM."""

    @classmethod
    def from_root_key(cls, device_id: str, root: str, prefix: str = "grokmon") -> Self:
        """Build the identity of an HS256 device from its root key."""
        up_key, down_key = derive_keys(root)
        return cls(device_id, "hs256", prefix, up_key, down_key)

    @classmethod
    def from_enrolment(cls, response: Mapping[str, Any], private_key: PrivateKey | None = None) -> Self:
        """Build the identity from what the service `grokmon.enroll_device` answered."""
        device_id, auth = response["device_id"], response["auth"]
        prefix = str(response["topics"]["telemetry"]).removesuffix(f"/v1/{device_id}/up/telemetry")
        if auth == "hs256":
            return cls.from_root_key(device_id, response["key"], prefix)
        if private_key is None:
            raise ValueError(f"{device_id} keeps its private key: enrolment cannot tell it")
        return cls(device_id, auth, prefix, private_key, response["site_public_key"])

    @property
    def algorithm(self) -> str:
        """Name the algorithm as a JWS header does."""
        return ALGORITHMS[self.auth]

    def up(self, channel: str) -> str:
        """Name the topic of a channel from the device to the hub."""
        return f"{self.prefix}/v1/{self.device_id}/up/{channel}"

    def down(self, channel: str) -> str:
        """Name the topic of a channel from the hub to the device."""
        return f"{self.prefix}/v1/{self.device_id}/down/{channel}"

    def sign(self, claims: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> bytes:
        """Sign claims with the JWT library, as any device may."""
        extra = dict(headers) if headers else None
        return jwt.encode(dict(claims), self.up_key, algorithm=self.algorithm, headers=extra).encode()

    def sign_bytes(self, payload: bytes, headers: Mapping[str, Any] | None = None) -> bytes:
        """Sign bytes that need not be claims, nor JSON, nor text."""
        extra = dict(headers) if headers else None
        return _JWS.encode(payload, self.up_key, algorithm=self.algorithm, headers=extra).encode()

    def verify_down(self, token: bytes, channel: str = "session") -> dict[str, Any]:
        """Give the claims of a message from the hub, or raise `DownlinkRefusedError`."""
        topic = self.down(channel)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self.down_key,
                algorithms=[self.algorithm],
                audience=topic,
                issuer="grokmon",
                # `iat` is judged by the device's own idea of the hub's clock.
                options={"require": ["iss", "aud"], "verify_iat": False},
            )
        except jwt.InvalidTokenError as err:
            raise DownlinkRefusedError(str(err)) from err
        if claims["aud"] != topic:
            raise DownlinkRefusedError("the audience is not this topic alone")
        return claims
