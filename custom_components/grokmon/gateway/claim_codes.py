"""Claims: how a device without credentials comes by them, once.

A claim code stands for credentials that are ready to be fetched; a request asks for a device with a public key of its
own, and waits for an administrator who compares the fingerprint. Neither outlives a restart.
"""

from dataclasses import dataclass, field
from hashlib import sha256
import hmac
from secrets import token_bytes
from typing import Final

from . import credentials, envelope
from .errors import Code, RegistryError, TransportError
from .models import Algorithm
from .topics import DEVICE_ID_PATTERN, RESERVED_IDS

CODE_BYTES: Final = 16
VALID_S: Final = 900.0
TRIES: Final = 5
MAX_REQUESTS: Final = 8
MAX_OF_A_HOST: Final = 2
_LOOKED_AT_S: Final = 300.0
AUDIENCE: Final = "grokmon/enrolment"


@dataclass(slots=True)
class _Claim:
    digest: bytes
    ends: float
    tries: int = TRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """A device that wants to be enrolled under its own public key."""

    device_id: str
    algorithm: Algorithm
    public_key: str = field(repr=False)
    fingerprint: str
    host: str
    ends: float


def check_possession(device_id: str, algorithm: Algorithm, public_key: str, proof: bytes, now: float) -> None:
    """Refuse whoever does not show to have the private half of a public key. Raises GatewayError.

    `proof` is a JWS of the device for AUDIENCE. It need not be fresh: nobody but the device can have made it.
    """
    if algorithm is Algorithm.HS256:
        raise RegistryError(Code.PUBLIC_KEY_INVALID, "a shared key is not brought, but fetched with a claim code")
    key = credentials.verifying_key(credentials.issue(algorithm, now, public_key), frozenset())
    envelope.open_envelope(proof, key, device_id, AUDIENCE, now)


class ClaimCodes:
    """The codes that may be used now; only their hashes are kept."""

    def __init__(self) -> None:
        self._claims: dict[str, _Claim] = {}

    def issue(self, device_id: str, now: float) -> str:
        """Return a code for a device; an earlier one is void."""
        code = envelope.encode_base64url(token_bytes(CODE_BYTES)).decode()
        self._claims[device_id] = _Claim(_digest(code), now + VALID_S)
        return code

    def redeem(self, device_id: str, code: str, now: float) -> None:
        """Use up the code of a device. Raises TransportError, which says no more than that it was not to be."""
        claim = self._claims.get(device_id)
        if claim is None or now >= claim.ends:
            self._claims.pop(device_id, None)
            raise TransportError(Code.CLAIM_INVALID)
        claim.tries -= 1
        right = hmac.compare_digest(claim.digest, _digest(code))
        if right or claim.tries == 0:
            del self._claims[device_id]
        if not right:
            raise TransportError(Code.CLAIM_INVALID)

    def waits(self, device_id: str, now: float) -> bool:
        """Tell whether a device has a code that can be used."""
        claim = self._claims.get(device_id)
        return claim is not None and now < claim.ends

    def withdraw(self, device_id: str) -> None:
        """Make the code of a device void."""
        self._claims.pop(device_id, None)


class EnrolmentRequests:
    """The devices that wait for an administrator."""

    def __init__(self) -> None:
        # By name and fingerprint: what is over is shown until it expires, even where another key has taken its name.
        self._requests: dict[tuple[str, str], EnrolmentRequest] = {}

    def add(self, device_id: str, algorithm: Algorithm, public_key: str, host: str, now: float) -> EnrolmentRequest:
        """Return the request of a device, a new one or the one that it has made before. `host` is where it comes from.

        Raises RegistryError for what cannot be enrolled, and for another key under the name of one that waits: whoever
        asks first is shown, and nobody can change what an administrator is looking at.
        """
        if DEVICE_ID_PATTERN.fullmatch(device_id) is None or device_id in RESERVED_IDS:
            raise RegistryError(Code.DEVICE_ID_INVALID)
        fingerprint = credentials.fingerprint(algorithm, public_key)
        known = self._waiting(device_id, now)
        if known is not None and known.fingerprint != fingerprint:
            raise RegistryError(Code.DEVICE_EXISTS)
        if known is None:
            waiting = [each.host for each in self._requests.values() if now < each.ends]
            if len(waiting) >= MAX_REQUESTS:
                raise TransportError(Code.RATE_LIMITED, f"{MAX_REQUESTS} requests wait for an administrator")
            if waiting.count(host) >= MAX_OF_A_HOST:
                raise TransportError(
                    Code.RATE_LIMITED, f"{MAX_OF_A_HOST} requests of this address wait for an administrator"
                )
            known = EnrolmentRequest(
                device_id=device_id,
                algorithm=algorithm,
                public_key=public_key,
                fingerprint=fingerprint,
                host=host,
                ends=now + VALID_S,
            )
            self._requests[device_id, fingerprint] = known
        return known

    def expire(self, now: float) -> list[EnrolmentRequest]:
        """Return the requests that were over some minutes ago, and forget them: nobody is looking at them any more."""
        over = [request for request in self._requests.values() if now >= request.ends + _LOOKED_AT_S]
        for request in over:
            del self._requests[request.device_id, request.fingerprint]
        return over

    def waits(self, device_id: str, now: float) -> bool:
        """Tell whether a device has asked already."""
        return self._waiting(device_id, now) is not None

    def find(self, device_id: str, fingerprint: str, now: float) -> EnrolmentRequest:
        """Return the request of a device with this key, which waits on. Raises TransportError when there is none."""
        request = self._requests.get((device_id, fingerprint))
        if request is None or now >= request.ends:
            raise TransportError(Code.CLAIM_INVALID)
        return request

    def withdraw(self, device_id: str, fingerprint: str) -> None:
        """Let a device wait no longer."""
        self._requests.pop((device_id, fingerprint), None)

    def _waiting(self, device_id: str, now: float) -> EnrolmentRequest | None:
        return next((each for each in self._requests.values() if each.device_id == device_id and now < each.ends), None)


def _digest(code: str) -> bytes:
    return sha256(code.encode()).digest()
