"""The life of credentials: pending, active, retiring, revoked.

A device may have several of a kind. A new one is pending until it is first used; from then on it is active, and what it
replaced is no longer accepted. What was replaced is kept for some days, so that it can be restored. The credentials of
a device stand in the order of their issue: a clock may be set back. What is issued together has one time of issue.
"""

from dataclasses import replace
from math import inf
from typing import Final

from .errors import Code, RegistryError
from .models import Credential, CredentialKind, CredentialState

OVERLAP: Final = 86_400.0
RESTORABLE: Final = 7 * 86_400.0
WARN_BEFORE: Final = 14 * 86_400.0

type Credentials = tuple[Credential, ...]

_IN_USE: Final = frozenset({CredentialState.ACTIVE, CredentialState.RETIRING})


def rotate(credentials: Credentials, fresh: Credential, now: float, overlap: float = OVERLAP) -> Credentials:
    """Return the credentials with a fresh one; those of its kind in use end after the overlap, in seconds.

    Without an overlap they are revoked: somebody else may have them. One that is still pending was never used, and is
    revoked, but where nobody tells of a first use. Raises RegistryError for a public key that the device has or had:
    whoever has its private half would keep it.
    """
    if fresh.public_key and any(each.public_key == fresh.public_key for each in credentials):
        raise RegistryError(Code.PUBLIC_KEY_INVALID, "the device had this key before")
    ends = now + overlap if overlap > 0 else None
    return (*(_replaced(each, ends) if each.kind is fresh.kind else each for each in credentials), fresh)


def first_used(credentials: Credentials, key_id: str, now: float) -> Credentials:
    """Return the credentials after the first use of a pending one: it is active, and what it replaced is over."""
    used = _named(credentials, key_id)
    return tuple(
        replace(each, state=CredentialState.ACTIVE)
        if each is used
        else replace(each, ends=min(each.ends, now))
        if used is not None and each.kind is used.kind and each.state is CredentialState.RETIRING
        else each
        for each in credentials
    )


def restorable(credentials: Credentials, kind: CredentialKind, now: float) -> Credential | None:
    """Return the credential that was replaced last and can be put in use again, or None."""
    found = [
        each
        for each in credentials
        if each.kind is kind
        and each.state is CredentialState.RETIRING
        and now < min(each.not_after, each.ends + RESTORABLE)
    ]
    return found[-1] if found else None


def replaced_last(credentials: Credentials, now: float) -> Credentials:
    """Return what comes back when the last rotation is undone: one of each kind that it replaced.

    What the device took up of another kind stays. Nobody tells of a use of what the broker checks: of that, it has what
    it was handed with the key, or the token, that comes back.
    """
    found = {each: old for each in current(credentials) if (old := restorable(credentials, each.kind, now)) is not None}
    if not found:
        return ()
    last = max(found, key=credentials.index)
    beside = [each for each in current(credentials) if each.kind.tells and each.created == last.created]
    if any(each.state is CredentialState.ACTIVE and each not in found for each in beside):
        # It was used, so the device has what it was handed with it; and what was before that is gone.
        return ()
    back = [old for each, old in found.items() if each.created == last.created]
    handed = max((_handed_before(credentials, each) for each in back if each.kind.tells), key=len, default=credentials)
    return tuple(each if each.kind.tells else restorable(handed, each.kind, now) or each for each in back)


def restore(credentials: Credentials, now: float) -> Credentials:
    """Return the credentials with what was replaced last in use again; those after it, of its kind, are revoked."""
    back = {each.kind: credentials.index(each) for each in replaced_last(credentials, now)}
    return tuple(
        replace(each, state=CredentialState.ACTIVE, ends=inf)
        if index == back.get(each.kind)
        else revoked(each)
        if index > back.get(each.kind, index)
        else each
        for index, each in enumerate(credentials)
    )


def settle(credentials: Credentials, now: float) -> Credentials:
    """Return the credentials after what time does to them.

    What can no longer be restored is revoked, and what is revoked is forgotten when it would have expired: until then,
    somebody may still show it. The broker does not tell of a first use: what it checks is taken for used when the
    overlap is over, unless nothing else that the device has now was used, either.
    """
    settled = tuple(_settled(each, credentials, now) for each in credentials)
    return tuple(each for each in settled if each.state is not CredentialState.REVOKED or now < each.not_after)


def revoke_all(credentials: Credentials) -> Credentials:
    """Return the credentials revoked, their secrets destroyed."""
    return tuple(revoked(each) for each in credentials)


def revoked(credential: Credential) -> Credential:
    """Return a credential revoked, its secret destroyed; the record stays until it would have expired."""
    return replace(credential, state=CredentialState.REVOKED, secret=b"")


def current(credentials: Credentials) -> Credentials:
    """Return the newest credential of each kind that is not revoked: what has to be replaced before it expires."""
    newest: dict[CredentialKind, Credential] = {}
    for each in credentials:
        if each.state is not CredentialState.REVOKED:
            newest[each.kind] = each
    return tuple(newest.values())


def due(credentials: Credentials, now: float) -> Credentials:
    """Return the current credentials that expire within WARN_BEFORE, or have expired."""
    return tuple(each for each in current(credentials) if each.not_after - now <= WARN_BEFORE)


def _named(credentials: Credentials, key_id: str) -> Credential | None:
    return next((each for each in credentials if each.key_id == key_id and each.state is CredentialState.PENDING), None)


def _handed_before(credentials: Credentials, old: Credential) -> Credentials:
    """Return what a device had been given when it was given what replaced one of its credentials."""
    later = credentials[credentials.index(old) + 1 :]
    fresh = next((each for each in later if each.kind is old.kind), None)
    if fresh is None:
        return credentials
    return tuple(each for each in credentials[: credentials.index(fresh)] if each.created != fresh.created)


def _replaced(credential: Credential, ends: float | None) -> Credential:
    """Return a credential that another one takes the place of, after `ends` or at once."""
    if credential.state is CredentialState.REVOKED:
        return credential
    if ends is None or (credential.state is CredentialState.PENDING and credential.kind.tells):
        return revoked(credential)
    return replace(credential, state=CredentialState.RETIRING, ends=min(credential.ends, ends))


def _settled(credential: Credential, credentials: Credentials, now: float) -> Credential:
    if credential.state is CredentialState.RETIRING and now >= credential.ends + RESTORABLE:
        return revoked(credential)
    if credential.kind.tells or credential.state is not CredentialState.PENDING or now < credential.not_before:
        return credential
    older = [each for each in credentials if each.kind is credential.kind and each.state in _IN_USE]
    telling = [each for each in current(credentials) if each.kind.tells]
    untouched = telling and all(each.state is CredentialState.PENDING for each in telling)
    if untouched or any(now < each.ends for each in older):
        return credential
    return replace(credential, state=CredentialState.ACTIVE)
