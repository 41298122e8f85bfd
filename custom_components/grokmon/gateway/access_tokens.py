"""Access tokens of devices that send over HTTP: JWTs that the site signs for itself (RFC 7519, RFC 8725).

The key is the site's and signs nothing else. A token only names its device and itself; whether it still holds is what
the registry says of the credential with its identifier.
"""

from dataclasses import dataclass
from typing import Final

from . import envelope
from .errors import Code, GatewayError, RegistryError, TransportError
from .models import Algorithm, Credential, SigningKey, VerifyingKey

AUDIENCE: Final = "grokmon/http"
SCOPE: Final = "telemetry"
KEY_BYTES: Final = 32
# Far above any token of ours, and far below what is worth hashing for a stranger.
MAX_TOKEN_BYTES: Final = 1024
# One header, byte for byte: what the site writes.
_HEADERS: Final = frozenset({envelope.HS256_HEADER})


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says: whose it is, and which."""

    device_id: str
    token_id: str


def seal(device_id: str, credential: Credential, key: bytes) -> str:
    """Return the token of a credential, to be shown once. Raises RegistryError without a key."""
    if len(key) != KEY_BYTES:
        raise RegistryError(Code.FIELD_INVALID, "token_key")
    claims = {
        "iss": envelope.SITE,
        "aud": AUDIENCE,
        "sub": device_id,
        "jti": credential.key_id,
        "scope": SCOPE,
        "iat": int(credential.created),
        "nbf": int(credential.not_before),
        # Not later than the record says.
        "exp": int(credential.not_after),
    }
    return envelope.seal(claims, SigningKey(algorithm=Algorithm.HS256, key=key)).decode()


def read(token: bytes, key: bytes, now: float) -> AccessToken:
    """Return what a token says. Raises TransportError for whatever the site did not sign, or is not valid now."""
    # What is signed under the key of no bytes, everybody can sign.
    if len(token) > MAX_TOKEN_BYTES or len(key) != KEY_BYTES:
        raise TransportError(Code.TOKEN_INVALID)
    verifying = VerifyingKey(key_id="", algorithm=Algorithm.HS256, headers=_HEADERS, key=key)
    try:
        claims = envelope.open_envelope(token, verifying, envelope.SITE, AUDIENCE, now)
    except GatewayError as error:
        expired = error.code is Code.EXPIRED
        # Which of the checks a token fails is nobody's business but the audit trail's.
        raise TransportError(Code.CREDENTIAL_EXPIRED if expired else Code.TOKEN_INVALID) from error
    device_id, token_id = claims.get("sub"), claims.get("jti")
    if type(device_id) is not str or type(token_id) is not str or claims.get("scope") != SCOPE or "exp" not in claims:
        raise TransportError(Code.TOKEN_INVALID)
    return AccessToken(device_id, token_id)
