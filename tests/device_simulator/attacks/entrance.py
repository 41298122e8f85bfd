"""Attacks that must fail before, or because, a signature is looked at."""

import base64
from collections.abc import Callable, Mapping
from secrets import token_bytes, token_urlsafe
from typing import Any

from tests.device_simulator.credentials import DeviceIdentity
from tests.device_simulator.signing import b64encode, compact_hs256, signing_input, to_json

from .scene import Catalogue, Forgery, Scene

MAX_MESSAGE_BYTES = 16_384
_BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

CATALOGUE = Catalogue()


@CATALOGUE.refused_as("unknown_device")
def _spoofed_id(scene: Scene) -> Forgery:
    ghost = DeviceIdentity.from_root_key("ghost-1", token_urlsafe(32), scene.victim.prefix)
    claims = scene.victim_claims() | {"iss": ghost.device_id, "aud": ghost.up("telemetry")}
    return Forgery(ghost.up("telemetry"), ghost.sign(claims))


@CATALOGUE.refused_as("unknown_channel")
def _unknown_channel(scene: Scene) -> Forgery:
    identity = scene.insider.identity
    return Forgery(identity.up("nonsense"), identity.sign(scene.claims(aud=identity.up("nonsense"))))


@CATALOGUE.refused_as("oversized")
def _oversized(scene: Scene) -> Forgery:
    return Forgery(scene.victim_topic, b"A" * (MAX_MESSAGE_BYTES + 1))


@CATALOGUE.refused_as("oversized")
def _oversized_and_signed(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(meta={"note": "x" * MAX_MESSAGE_BYTES}))


@CATALOGUE.refused_as("retained")
def _retained(scene: Scene) -> Forgery:
    # A broker passes the flag only to who subscribes later; until then this is a forged message like any other.
    return Forgery(scene.victim_topic, scene.insider.identity.sign(scene.victim_claims()), retain=True)


@CATALOGUE.refused_as("malformed")
def _empty(scene: Scene) -> Forgery:
    return Forgery(scene.victim_topic, b"")


@CATALOGUE.refused_as("malformed")
def _not_signed_at_all(scene: Scene) -> Forgery:
    return Forgery(scene.victim_topic, to_json({"device_id": scene.victim.device_id, "metrics": {scene.metric: 55.5}}))


@CATALOGUE.refused_as("signature_invalid")
def _key_of_another_device(scene: Scene) -> Forgery:
    return Forgery(scene.victim_topic, scene.insider.identity.sign(scene.victim_claims()))


@CATALOGUE.refused_as("signature_invalid")
def _own_token_on_the_topic_of_another(scene: Scene) -> Forgery:
    return Forgery(scene.victim_topic, scene.signed(scene.claims()).payload)


@CATALOGUE.refused_as("issuer_mismatch")
def _issuer_of_another_device(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(iss=scene.victim.device_id))


@CATALOGUE.refused_as("issuer_mismatch")
def _device_id_of_another_device(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(device_id=scene.victim.device_id))


@CATALOGUE.refused_as("audience_mismatch")
def _audience_of_another_device(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(aud=scene.victim_topic))


@CATALOGUE.refused_as("audience_mismatch")
def _audience_of_another_channel(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(aud=scene.insider.identity.up("hello")))


@CATALOGUE.refused_as("audience_mismatch")
def _audience_of_many(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(aud=[scene.topic, scene.victim_topic]))


@CATALOGUE.refused_as("unsigned")
def _algorithm_none(scene: Scene) -> Forgery:
    header = {"alg": "none", "typ": "JWT"}
    return Forgery(scene.victim_topic, signing_input(header, to_json(scene.victim_claims())) + b".")


@CATALOGUE.refused_as("unsigned")
def _algorithm_none_in_mixed_case(scene: Scene) -> Forgery:
    header = {"alg": "nOnE", "typ": "JWT"}
    return Forgery(scene.victim_topic, signing_input(header, to_json(scene.victim_claims())) + b".")


@CATALOGUE.refused_as("algorithm_not_allowed")
def _algorithm_of_another_family(scene: Scene) -> Forgery:
    header = {"alg": "RS256", "typ": "JWT"}
    return Forgery(scene.victim_topic, compact_hs256(to_json(scene.victim_claims()), token_bytes(32), header))


@CATALOGUE.refused_as("algorithm_not_allowed", needs="key_pair_victim")
def _algorithm_confusion_with_pem(scene: Scene) -> Forgery:
    return _signed_with_public_key(scene, scene.public_pem.encode())


@CATALOGUE.refused_as("algorithm_not_allowed", needs="key_pair_victim")
def _algorithm_confusion_with_raw_key(scene: Scene) -> Forgery:
    # The key itself ends the encoded structure: 32 bytes of Ed25519, 65 of an uncompressed point of P-256.
    encoded = base64.b64decode("".join(scene.public_pem.strip().splitlines()[1:-1]))
    return _signed_with_public_key(scene, encoded[-32:] if len(encoded) < 65 else encoded[-65:])


@CATALOGUE.refused_as("header_not_allowed")
def _key_in_the_header(scene: Scene) -> Forgery:
    key = token_bytes(32)
    return _with_header(scene, {"jwk": {"kty": "oct", "k": b64encode(key).decode()}}, key)


@CATALOGUE.refused_as("header_not_allowed")
def _key_address_in_the_header(scene: Scene) -> Forgery:
    return _with_header(scene, {"jku": "https://127.0.0.1/keys.json"}, token_bytes(32))


@CATALOGUE.refused_as("header_not_allowed")
def _critical_header(scene: Scene) -> Forgery:
    return _with_header(scene, {"crit": ["b64"], "b64": True}, token_bytes(32))


@CATALOGUE.refused_as("signature_invalid")
def _signature_missing(scene: Scene) -> Forgery:
    return _with_signature(scene, lambda _signature: b"")


@CATALOGUE.refused_as("signature_invalid")
def _signature_truncated(scene: Scene) -> Forgery:
    # To whole groups of four characters, so that it is well-formed and only too short.
    return _with_signature(scene, lambda signature: signature[: (len(signature) - 1) // 4 * 4])


@CATALOGUE.refused_as("signature_invalid")
def _signature_altered(scene: Scene) -> Forgery:
    return _with_signature(scene, lambda signature: _next_character(signature[:1]) + signature[1:])


@CATALOGUE.refused_as("malformed")
def _signature_padded(scene: Scene) -> Forgery:
    return _with_signature(scene, lambda signature: signature + b"=" * (-len(signature) % 4))


@CATALOGUE.refused_as("malformed")
def _signature_not_canonical(scene: Scene) -> Forgery:
    # The last character carries bits that belong to no byte: another one there stands for the same signature.
    return _with_signature(scene, lambda signature: signature[:-1] + _next_character(signature[-1:]))


@CATALOGUE.refused_as("malformed")
def _signature_in_standard_base64(scene: Scene) -> Forgery:
    return _with_signature(scene, lambda signature: b"+" + signature[1:])


@CATALOGUE.refused_as("signature_invalid")
def _claims_altered(scene: Scene) -> Forgery:
    claims = scene.claims()
    header, _, signature = scene.signed(claims).payload.split(b".")
    return Forgery(scene.topic, b".".join((header, b64encode(to_json(claims | {"seq": 2**52})), signature)))


@CATALOGUE.refused_as("expired")
def _expired(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(exp=int(scene.now()) - 60))


@CATALOGUE.refused_as("not_yet_valid")
def _not_yet_valid(scene: Scene) -> Forgery:
    return scene.signed(scene.claims(nbf=int(scene.now()) + 3600))


def _with_header(scene: Scene, fields: Mapping[str, Any], key: bytes) -> Forgery:
    header = {"alg": scene.victim.algorithm, "typ": "JWT", **fields}
    return Forgery(scene.victim_topic, compact_hs256(to_json(scene.victim_claims()), key, header))


def _with_signature(scene: Scene, change: Callable[[bytes], bytes]) -> Forgery:
    covered, _, signature = scene.signed(scene.claims()).payload.rpartition(b".")
    return Forgery(scene.topic, covered + b"." + change(signature))


def _signed_with_public_key(scene: Scene, key: bytes) -> Forgery:
    if (victim := scene.key_pair_victim) is None:
        raise ValueError("this scene has no device with a public key")
    claims = scene.victim_claims() | {"iss": victim.device_id, "aud": victim.up("telemetry")}
    return Forgery(victim.up("telemetry"), compact_hs256(to_json(claims), key))


def _next_character(character: bytes) -> bytes:
    """Give the base64url character that differs in the lowest bit."""
    index = _BASE64URL.index(character) ^ 1
    return _BASE64URL[index : index + 1]
