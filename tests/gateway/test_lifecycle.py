"""Tests of the life of credentials: rotated with an overlap, taken up, restored, and over for good."""

from dataclasses import replace
from math import inf
from typing import Any, Final

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
import pytest

from custom_components.grokmon.gateway import lifecycle
from custom_components.grokmon.gateway.admission import admission_of
from custom_components.grokmon.gateway.errors import GatewayError, RegistryError
from custom_components.grokmon.gateway.lifecycle import OVERLAP, RESTORABLE
from custom_components.grokmon.gateway.models import Algorithm, Channel, Credential, CredentialKind, CredentialState

from .wire import NOW, PREFIX, Sender, device_of

DAY: Final = 86_400.0
PENDING, ACTIVE, RETIRING, REVOKED = CredentialState
SEEN = [CredentialKind.KEY, CredentialKind.TOKEN]
UNSEEN = [CredentialKind.PASSWORD, CredentialKind.CERTIFICATE]


ISSUED = Credential(key_id="", secret=b"s" * 32, created=NOW, not_before=NOW, not_after=NOW + 365 * DAY)


def one(
    key_id: str, state: CredentialState = PENDING, kind: CredentialKind = CredentialKind.KEY, **dates: Any
) -> Credential:
    """Return a credential by name, issued at NOW."""
    return replace(ISSUED, key_id=key_id, kind=kind, state=state, **dates)


def states(known: tuple[Credential, ...]) -> dict[str, str]:
    """Return the state of every credential by its name."""
    return {each.key_id: each.state.value for each in known}


BYSTANDER = one("other", ACTIVE, CredentialKind.CERTIFICATE)


# --- Rotate


@pytest.mark.parametrize("overlap", [0.5, 60.0, OVERLAP])
def test_rotated(overlap: float) -> None:
    """Let what was in use end after the overlap, put the fresh one last, and leave other kinds alone."""
    fresh = one("b", not_before=NOW + 5)
    old = one("a", ACTIVE)
    assert lifecycle.rotate((BYSTANDER, old), fresh, NOW + 5, overlap) == (
        BYSTANDER,
        replace(old, state=RETIRING, ends=NOW + 5 + overlap),
        fresh,
    )


def test_overlap_of_a_day() -> None:
    """Give a device a day to take up what is new."""
    assert lifecycle.rotate((one("a", ACTIVE),), one("b"), NOW)[0].ends == NOW + DAY


def test_first_of_its_kind() -> None:
    """Add a credential to a device that has none of its kind."""
    assert lifecycle.rotate((BYSTANDER,), one("a"), NOW) == (BYSTANDER, one("a"))


@pytest.mark.parametrize("kind", SEEN)
def test_rotated_before_it_was_used(kind: CredentialKind) -> None:
    """Revoke what was never used, and keep what it was to replace until the end that was set."""
    known = lifecycle.rotate((one("a", ACTIVE, kind),), one("b", kind=kind), NOW)
    known = lifecycle.rotate(known, one("c", kind=kind), NOW + 60)
    assert states(known) == {"a": "retiring", "b": "revoked", "c": "pending"}
    assert (known[0].ends, known[1].secret) == (NOW + OVERLAP, b"")


@pytest.mark.parametrize("kind", UNSEEN)
def test_rotated_while_nobody_tells_of_a_use(kind: CredentialKind) -> None:
    """Keep what a device may well be using, where the broker checks it and does not tell."""
    known = lifecycle.rotate((one("a", kind=kind),), one("b", kind=kind), NOW + 60)
    assert states(known) == {"a": "retiring", "b": "pending"}
    known = lifecycle.rotate(known, one("c", kind=kind), NOW + 120)
    assert states(known) == {"a": "retiring", "b": "retiring", "c": "pending"}
    assert [each.ends for each in known] == [NOW + 60 + OVERLAP, NOW + 120 + OVERLAP, inf]


def test_rotated_at_once_during_an_overlap() -> None:
    """End at once what still had an overlap: somebody may know the key."""
    known = lifecycle.rotate((one("a", ACTIVE),), one("b"), NOW)
    known = lifecycle.rotate(known, one("c", not_before=NOW + 60), NOW + 60, 0.0)
    assert states(known) == {"a": "revoked", "b": "revoked", "c": "pending"}


@pytest.mark.parametrize("kind", CredentialKind)
@pytest.mark.parametrize("state", CredentialState)
def test_no_overlap_is_for_good(kind: CredentialKind, state: CredentialState) -> None:
    """Destroy what somebody else may have, so that nobody restores it."""
    old = replace(one("a", state, kind), secret=b"secret")
    known = lifecycle.rotate((BYSTANDER, old), one("b", kind=kind), NOW, 0.0)
    assert states(known)["a"] == "revoked"
    assert lifecycle.restorable(known, kind, NOW) is None
    assert known[1].secret == (b"secret" if state is REVOKED else b"")


@pytest.mark.parametrize("state", CredentialState)
def test_same_public_key_again(state: CredentialState) -> None:
    """Refuse a public key that the device had before, in whatever state: it would be no other key."""
    known = (replace(one("a", state), secret=b"", public_key="PEM"), one("b", ACTIVE))
    with pytest.raises(RegistryError, match="public_key_invalid: the device had this key before"):
        lifecycle.rotate(known, replace(one("c"), secret=b"", public_key="PEM"), NOW)


# --- First use


def test_first_use() -> None:
    """Put a pending one in use, and end what it replaced."""
    known = lifecycle.rotate((BYSTANDER, one("a", ACTIVE)), one("b"), NOW)
    used = lifecycle.first_used(known, "b", NOW + 60)
    assert states(used) == {"other": "active", "a": "retiring", "b": "active"}
    assert used[1].ends == NOW + 60
    assert used[0] is BYSTANDER


def test_first_use_after_the_overlap() -> None:
    """Prolong nothing that is over."""
    known = lifecycle.rotate((one("a", ACTIVE),), one("b"), NOW)
    assert lifecycle.first_used(known, "b", NOW + 9 * DAY)[0].ends == NOW + OVERLAP


def test_first_use_leaves_other_kinds_in_their_overlap() -> None:
    """End nothing of another kind."""
    known = (one("p", RETIRING, CredentialKind.PASSWORD, ends=NOW + DAY), one("a", RETIRING, ends=NOW + DAY), one("b"))
    used = lifecycle.first_used(known, "b", NOW)
    assert [each.ends for each in used] == [NOW + DAY, NOW, inf]


@pytest.mark.parametrize("key_id", ["a", "b", "c", ""])
def test_no_first_use(key_id: str) -> None:
    """Change nothing for what is not pending: it was used before, is over, or is unknown."""
    known = (one("a", RETIRING, ends=NOW + DAY), one("b", ACTIVE), one("c", REVOKED))
    assert lifecycle.first_used(known, key_id, NOW) == known


# --- Restore


def test_restored_before_the_new_one_was_used() -> None:
    """Put the old one in use without an end, and revoke the new one."""
    old = one("a", ACTIVE)
    known = lifecycle.rotate((BYSTANDER, old), one("b"), NOW)
    assert lifecycle.restorable(known, CredentialKind.KEY, NOW) == known[1]
    assert lifecycle.restore(known, NOW) == (BYSTANDER, old, lifecycle.revoked(one("b")))


def test_restored_after_the_new_one_was_used() -> None:
    """Put in use what was replaced last, and revoke everything after it, one rotation after the other."""
    known: tuple[Credential, ...] = (one("a", ACTIVE),)
    for at, key_id in enumerate("bc"):
        known = lifecycle.first_used(lifecycle.rotate(known, one(key_id), NOW + at), key_id, NOW + at)
    known = lifecycle.restore(known, NOW + 60)
    assert states(known) == {"a": "retiring", "b": "active", "c": "revoked"}
    known = lifecycle.restore(known, NOW + 60)
    assert states(known) == {"a": "active", "b": "revoked", "c": "revoked"}
    assert lifecycle.restorable(known, CredentialKind.KEY, NOW + 60) is None
    assert lifecycle.restore(known, NOW + 60) == known


def test_restored_after_the_clock_was_set_back() -> None:
    """Go by the order of issue, and never have two in use."""
    known = lifecycle.rotate((one("a", ACTIVE),), one("b", created=NOW - 9 * DAY, not_before=NOW - 9 * DAY), NOW)
    used = lifecycle.first_used(known, "b", NOW)
    assert states(lifecycle.restore(used, NOW)) == {"a": "active", "b": "revoked"}


@pytest.mark.parametrize(
    ("old", "now", "possible"),
    [
        (one("a", RETIRING, ends=NOW), NOW + RESTORABLE - 1, True),
        (one("a", RETIRING, ends=NOW), NOW + RESTORABLE, False),
        (one("a", RETIRING, ends=NOW, not_after=NOW + 60), NOW + 59, True),
        (one("a", RETIRING, ends=NOW, not_after=NOW + 60), NOW + 60, False),
        (one("a", ACTIVE), NOW, False),
        (one("a", PENDING), NOW, False),
        (one("a", REVOKED), NOW, False),
    ],
)
def test_what_can_be_restored(old: Credential, now: float, possible: bool) -> None:
    """Restore what was replaced a week ago at most, and has not expired."""
    assert (lifecycle.restorable((old,), CredentialKind.KEY, now) is old) == possible
    assert (lifecycle.restore((old,), now) != (old,)) == possible


def test_kinds_are_told_apart() -> None:
    """Take nothing of another kind for what was replaced."""
    old = one("a", RETIRING, CredentialKind.PASSWORD, ends=NOW)
    assert lifecycle.restorable((old,), CredentialKind.KEY, NOW) is None
    assert lifecycle.restorable((old,), CredentialKind.PASSWORD, NOW) is old


# --- Restore what was issued together

ALL: Final = [CredentialKind.KEY, CredentialKind.PASSWORD, CredentialKind.TOKEN]


def together(known: tuple[Credential, ...], at: float, *kinds: CredentialKind) -> tuple[Credential, ...]:
    """Return the credentials after a rotation of some kinds; each is named by its kind and when it was issued."""
    for kind in kinds:
        known = lifecycle.rotate(known, one(f"{kind.value} {at:g}", kind=kind, created=NOW + at), NOW + at)
    return known


def enrolled(*kinds: CredentialKind) -> tuple[Credential, ...]:
    """Return the credentials of a device that was enrolled at NOW, and is heard."""
    return tuple(replace(each, state=ACTIVE) for each in together((), 0, *kinds))


def taken_up(known: tuple[Credential, ...], *key_ids: str) -> tuple[Credential, ...]:
    """Return the credentials after the first use of some."""
    for key_id in key_ids:
        known = lifecycle.first_used(known, key_id, NOW + 300)
    return known


def in_use(known: tuple[Credential, ...]) -> set[str]:
    """Return the names of the credentials that are in use and not replaced."""
    return {each.key_id for each in known if each.state is ACTIVE}


def test_restored_together() -> None:
    """Undo a rotation of all kinds as a whole."""
    known = together(enrolled(*ALL), 100, *ALL)
    assert in_use(lifecycle.restore(known, NOW + 200)) == {"key 0", "password 0", "token 0"}


def test_other_kinds_stay_as_they_were_taken_up() -> None:
    """Undo the last rotation only: the key that the device took up days ago is the one that it has."""
    known = taken_up(together(enrolled(*ALL), 100, *ALL), "key 100", "token 100")
    known = together(known, 2 * DAY, CredentialKind.PASSWORD)
    assert {each.key_id for each in lifecycle.replaced_last(known, NOW + 2 * DAY)} == {"password 100"}
    assert in_use(lifecycle.restore(known, NOW + 2 * DAY)) == {"key 100", "password 100", "token 100"}


def test_restored_after_two_that_were_not_taken_up() -> None:
    """Give back, of what the broker checks, what the device was handed with the key that it has."""
    known = together(together(enrolled(*ALL), 100, *ALL), 200, *ALL)
    known = lifecycle.restore(known, NOW + 300)
    assert in_use(known) == {"key 0", "password 0", "token 0"}
    assert {each.state for each in known if each.created > NOW} == {REVOKED}


def test_restored_after_the_second_was_not_taken_up() -> None:
    """Go back no further than to what the device has shown to have."""
    known = together(taken_up(together(enrolled(*ALL), 100, *ALL), "key 100"), 200, *ALL)
    assert in_use(lifecycle.restore(known, NOW + 400)) == {"key 100", "password 100", "token 0"}


def test_restored_step_by_step_where_nobody_tells() -> None:
    """Go back by one, and by one more, where no use of anything is told of."""
    kind = CredentialKind.PASSWORD
    known = together(together(enrolled(kind), 100, kind), 200, kind)
    known = lifecycle.restore(known, NOW + 300)
    assert states(known) == {"password 0": "retiring", "password 100": "active", "password 200": "revoked"}
    known = lifecycle.restore(known, NOW + 300)
    assert states(known) == {"password 0": "active", "password 100": "revoked", "password 200": "revoked"}
    assert lifecycle.replaced_last(known, NOW + 300) == ()


def test_first_password_of_a_device() -> None:
    """Give back the newest where none was handed out with the key: the first one came later than that."""
    known = together(enrolled(CredentialKind.KEY), 50, CredentialKind.PASSWORD)
    known = together(known, 100, CredentialKind.KEY)
    known = together(known, 200, CredentialKind.KEY, CredentialKind.PASSWORD)
    assert in_use(lifecycle.restore(known, NOW + 300)) == {"key 0", "password 50"}
    known = together(enrolled(CredentialKind.KEY), 100, CredentialKind.KEY, CredentialKind.PASSWORD)
    known = together(known, 200, CredentialKind.KEY, CredentialKind.PASSWORD)
    assert in_use(lifecycle.restore(known, NOW + 300)) == {"key 0", "password 100"}


@pytest.mark.parametrize(("at", "back"), [(6 * DAY, {"key 0", "password 0", "token 0"}), (7 * DAY + 3600, set())])
def test_restored_together_or_not_at_all(at: float, back: set[str]) -> None:
    """Give back no password alone: with the key that it took up the device was handed the new one."""
    known = taken_up(together(enrolled(*ALL), 100, *ALL), "key 100", "token 100")
    assert {each.key_id for each in lifecycle.replaced_last(known, NOW + at)} == back
    assert (lifecycle.restore(known, NOW + at) == known) is (not back)


def test_restored_together_after_the_clock_was_set_back() -> None:
    """Go by the order of issue: what was issued last may bear an earlier date."""
    known = taken_up(together(enrolled(*ALL), 100, *ALL), "key 100", "token 100")
    known = together(known, -9 * DAY, *ALL)
    assert in_use(lifecycle.restore(known, NOW - 9 * DAY)) == {"key 100", "password 100", "token 100"}


# --- Time


def test_settled() -> None:
    """Revoke what can no longer be restored, and forget what is revoked when it would have expired."""
    known = (one("a", RETIRING, ends=NOW), one("b", ACTIVE))
    assert lifecycle.settle(known, NOW + RESTORABLE - 1) == known
    settled = lifecycle.settle(known, NOW + RESTORABLE)
    assert settled == (lifecycle.revoked(known[0]), known[1])
    assert lifecycle.settle(settled, NOW + 365 * DAY - 1) == settled
    assert lifecycle.settle(settled, NOW + 365 * DAY) == (known[1],)


@pytest.mark.parametrize("state", [PENDING, ACTIVE])
def test_expired_is_not_forgotten(state: CredentialState) -> None:
    """Keep the record of what expired: somebody has to be told to replace it."""
    known = (one("a", state, not_after=NOW),)
    assert lifecycle.settle(known, NOW + 999 * DAY) == known


@pytest.mark.parametrize("kind", UNSEEN)
def test_taken_for_used(kind: CredentialKind) -> None:
    """Take what the broker checks for used when the overlap is over, or when there was nothing before it."""
    fresh = one("a", kind=kind)
    assert states(lifecycle.settle((fresh,), NOW - 1)) == {"a": "pending"}
    known = lifecycle.settle((fresh,), NOW)
    assert states(known) == {"a": "active"}
    known = lifecycle.rotate(known, one("b", kind=kind), NOW)
    assert states(lifecycle.settle(known, NOW + OVERLAP - 1)) == {"a": "retiring", "b": "pending"}
    assert states(lifecycle.settle(known, NOW + OVERLAP)) == {"a": "retiring", "b": "active"}
    assert states(lifecycle.settle(known, NOW + OVERLAP + RESTORABLE)) == {"a": "revoked", "b": "active"}


@pytest.mark.parametrize("kind", UNSEEN)
@pytest.mark.parametrize("telling", SEEN)
def test_not_taken_for_used_while_nothing_was(kind: CredentialKind, telling: CredentialKind) -> None:
    """Take nothing for used that the broker checks while the device has used nothing else of what it has now."""
    known = (one("k", kind=telling), one("a", kind=kind))
    assert lifecycle.settle(known, NOW + 99 * DAY) == known
    used = lifecycle.first_used(known, "k", NOW)
    assert states(lifecycle.settle(used, NOW)) == {"k": "active", "a": "active"}
    known = (one("k", REVOKED, telling), one("a", kind=kind))
    assert states(lifecycle.settle(known, NOW))["a"] == "active"


def test_taken_for_used_beside_what_was() -> None:
    """Go by the newest of each kind, and by any that was used: a token may lie in a drawer."""
    password = one("p", kind=CredentialKind.PASSWORD)
    known = (one("k", ACTIVE), one("t", kind=CredentialKind.TOKEN), password)
    assert states(lifecycle.settle(known, NOW))["p"] == "active"
    known = (one("k", RETIRING, ends=NOW), one("l"), password)
    assert states(lifecycle.settle(known, NOW))["p"] == "pending"


@pytest.mark.parametrize("kind", SEEN)
def test_not_taken_for_used(kind: CredentialKind) -> None:
    """Wait for the first use of what the gateway itself checks."""
    known = (one("a", RETIRING, kind, ends=NOW), one("b", kind=kind))
    assert states(lifecycle.settle(known, NOW + 99 * DAY)) == {"a": "revoked", "b": "pending"}


# --- The end


@pytest.mark.parametrize("state", CredentialState)
def test_revoked(state: CredentialState) -> None:
    """Destroy the secret, and keep the rest of the record."""
    assert lifecycle.revoked(one("a", state)) == replace(one("a", REVOKED), secret=b"")


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.EDDSA])
def test_revoked_key_pair(algorithm: Algorithm) -> None:
    """Leave a public key as it is: there is no secret in it, and it must not be enrolled again."""
    known = Sender.new("tent-1", algorithm).credential
    assert lifecycle.revoked(known) == replace(known, state=REVOKED)


def test_everything_revoked() -> None:
    """Leave nothing to restore, to use or to be told of."""
    known = lifecycle.revoke_all((BYSTANDER, one("a", RETIRING, ends=NOW + 60), one("b"), one("c", ACTIVE)))
    assert {(each.state, each.secret) for each in known} == {(REVOKED, b"")}
    assert lifecycle.first_used(known, "b", NOW) == known
    assert [lifecycle.restorable(known, kind, NOW) for kind in CredentialKind] == [None] * 4
    assert lifecycle.current(known) == ()
    assert lifecycle.due(known, NOW + 999 * DAY) == ()


# --- What has to be replaced


def test_current() -> None:
    """Name the newest of each kind, in the order of issue, whatever the clock said."""
    known = (one("a", RETIRING, created=NOW + 60), BYSTANDER, one("b", created=NOW), one("c", REVOKED))
    assert {each.kind: each for each in lifecycle.current(known)} == {
        CredentialKind.KEY: known[2],
        CredentialKind.CERTIFICATE: BYSTANDER,
    }


@pytest.mark.parametrize(
    ("not_after", "now", "due"),
    [
        (NOW + 14 * DAY, NOW - 1, False),
        (NOW + 14 * DAY, NOW, True),
        (NOW, NOW + DAY, True),
        (inf, NOW + 999 * DAY, False),
    ],
)
def test_due(not_after: float, now: float, due: bool) -> None:
    """Tell two weeks before, and go on telling."""
    known = one("a", ACTIVE, not_after=not_after)
    assert lifecycle.due((known,), now) == ((known,) if due else ())


def test_not_due_once_it_is_replaced() -> None:
    """Say nothing more of what is being replaced."""
    known = lifecycle.rotate((one("a", ACTIVE, not_after=NOW),), one("b"), NOW)
    assert lifecycle.due(known, NOW) == ()


# --- Any order of events


class Life(RuleBasedStateMachine):
    """The keys of one device, and a clock that mostly goes forward, beside what a person would write down about them.

    `current` is the key that the device has shown to have, `fresh` the one that it was given and has not shown yet;
    `former` are those that were replaced, with when they ended, and `dead` those that must never come back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.senders: dict[str, Sender] = {}
        self.current = ""
        self.fresh = ""
        self.grace = inf
        self.former: list[tuple[str, float]] = []
        self.dead: set[str] = set()
        self.known: tuple[Credential, ...] = (BYSTANDER,)
        self.rotate(OVERLAP)

    @rule(overlap=st.sampled_from([0.0, 60.0, 60.0, OVERLAP, OVERLAP]))
    def rotate(self, overlap: float) -> None:
        """Issue another key."""
        sender = Sender.new(state=PENDING, now=self.now)
        self.known = lifecycle.rotate(self.known, sender.credential, self.now, overlap)
        self.grace = min(self.grace, self.now + overlap) if self.current else inf
        self.dead |= {self.fresh} - {""}
        if overlap == 0.0:
            self.dead |= {self.current, *(key_id for key_id, _ in self.former)} - {""}
            self.current, self.grace, self.former = "", inf, []
        self.fresh = sender.credential.key_id
        self.senders[self.fresh] = sender

    @precondition(lambda self: self.fresh)
    @rule()
    def use(self) -> None:
        """Let the device show that it has the fresh key, where that is accepted already, and still."""
        if not self._accepts(self.fresh):
            return
        self.known = lifecycle.first_used(self.known, self.fresh, self.now)
        if self.current:
            self.former.append((self.current, min(self.grace, self.now)))
        self.current, self.fresh, self.grace = self.fresh, "", inf

    @precondition(lambda self: self.senders)
    @rule(data=st.data())
    def use_another(self, data: st.DataObject) -> None:
        """Report the first use of a key that is not pending: it changes nothing."""
        key_id = data.draw(st.sampled_from(sorted(self.senders)))
        if key_id != self.fresh:
            assert lifecycle.first_used(self.known, key_id, self.now) == self.known

    @rule()
    def restore(self) -> None:
        """Put in use again what was replaced last, where that is still possible."""
        expected = self._restorable()
        found = lifecycle.restorable(self.known, CredentialKind.KEY, self.now)
        assert (found.key_id if found else "") == expected
        before = self.known
        self.known = lifecycle.restore(self.known, self.now)
        if not expected:
            assert self.known == before
            return
        after = list(self.senders)
        self.dead |= set(after[after.index(expected) + 1 :])
        self.former = [(key_id, ended) for key_id, ended in self.former if key_id not in {*self.dead, expected}]
        self.current, self.fresh, self.grace = expected, "", inf
        if self.now >= self.senders[expected].credential.not_before:
            assert self._accepts(expected)

    @rule()
    def settle(self) -> None:
        """Do what time does: it may take away what is over, and never the last key."""
        had = {each.key_id for each in self.known if each.kind is CredentialKind.KEY and each.state is not REVOKED}
        self.known = lifecycle.settle(self.known, self.now)
        left = {each.key_id for each in self.known if each.kind is CredentialKind.KEY and each.state is not REVOKED}
        assert left or not had
        replaced = [*self.former, *([(self.current, self.grace)] if self.fresh and self.current else [])]
        over = {key_id for key_id, ended in replaced if self.now >= ended + RESTORABLE}
        assert had - left == over & had
        self.dead |= over
        self.former = [(key_id, ended) for key_id, ended in self.former if key_id not in over]
        if self.current in over:
            self.current, self.grace = "", inf

    @rule()
    def revoke_all(self) -> None:
        """End everything."""
        self.known = lifecycle.revoke_all(self.known)
        self.dead |= set(self.senders)
        self.current, self.fresh, self.grace, self.former = "", "", inf, []

    @rule(seconds=st.sampled_from([-2 * DAY, -DAY, -60, -1, 1, 59, 60, DAY / 2, DAY, 6 * DAY, 200 * DAY]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass, or the clock jump."""
        self.now += seconds

    @invariant()
    def one_in_use(self) -> None:
        """Never have two keys in use, nor two that wait for their first use."""
        found = [each.state for each in self.known if each.kind is CredentialKind.KEY]
        assert found.count(ACTIVE) <= 1
        assert found.count(PENDING) <= 1

    @invariant()
    def dead_stay_dead(self) -> None:
        """Keep no secret of what was revoked, and revive none of it."""
        found = {each.key_id: each for each in self.known if each.kind is CredentialKind.KEY}
        assert {key_id for key_id, each in found.items() if each.state is REVOKED} == found.keys() & self.dead
        assert all(not found[key_id].secret for key_id in found.keys() & self.dead)

    @invariant()
    def right_keys_are_accepted(self) -> None:
        """Accept the fresh key, the current one until the overlap is over, and no other, whatever the clock does."""
        expected = set()
        if self.fresh:
            expected.add(self.fresh)
        began = self.senders[self.fresh].credential.not_before if self.fresh else -inf
        if self.current and began < self.grace and self.now < self.grace:
            expected.add(self.current)
        assert {key_id for key_id in self.senders if self._accepts(key_id)} == {
            key_id
            for key_id in expected
            if self.senders[key_id].credential.not_before <= self.now < self.senders[key_id].credential.not_after
        }

    @invariant()
    def bystander_is_left_alone(self) -> None:
        """Change nothing of another kind but when everything is revoked, or forgotten after that."""
        assert [each for each in self.known if each.kind is not CredentialKind.KEY] in (
            [BYSTANDER],
            [lifecycle.revoked(BYSTANDER)],
            [],
        )

    def _restorable(self) -> str:
        replaced = [*self.former, *([(self.current, self.grace)] if self.fresh and self.current else [])]
        found = [
            key_id
            for key_id, ended in replaced
            if self.now < min(ended + RESTORABLE, self.senders[key_id].credential.not_after)
        ]
        return found[-1] if found else ""

    def _accepts(self, key_id: str) -> bool:
        sender = self.senders[key_id]
        admission = admission_of(replace(device_of(sender), credentials=self.known), PREFIX, {}, None)
        try:
            _, door = admission.open(Channel.TELEMETRY, sender.sign({"iat": self.now}), self.now)
        except GatewayError:
            return False
        assert door.credential.key_id == key_id
        assert bool(door.first_use) == (key_id == self.fresh)
        return True


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=250, stateful_step_count=40)
