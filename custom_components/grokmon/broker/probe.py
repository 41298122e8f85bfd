"""Find out by trying whether a broker keeps devices apart. Blocking; a few seconds.

What a broker is configured to do and what it does are two things. The probe therefore takes part as a device of its
own, does what a device must not do, and looks at what arrives. It leaves nothing behind: no message is retained, no
session is kept. A password is sent where the certificate is trusted (or where the endpoint has no TLS), nowhere else.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
import json
import secrets
from time import monotonic
from typing import Final

from custom_components.grokmon.gateway.posture import Check, CheckResult, Finding, PostureReport
from custom_components.grokmon.gateway.topics import VERSION

from . import knock
from .connection import (
    REFUSED,
    BrokerError,
    ClosedError,
    Connection,
    Endpoint,
    Login,
    Protocol,
    RefusedError,
    UnreachableError,
)
from .party import HUNG_UP, Party

_CONTROL: Final = "$CONTROL/dynamic-security/v1"
_DISCOVERY: Final = "homeassistant/grokmon_probe"
"""Not a component that is discovered: whoever listens to discovery ignores it."""
_NO_ENTRY: Final = frozenset({0x86, 0x87, 0x8C})
"""The reasons that speak of who connects: bad user name or password, not authorized, bad authentication method."""
_TURN_S: Final = 0.02
_GRACE_S: Final = 1.0
_NOT_TRIED: Final = "not tried"
_CLOSED: Final = "closed without an answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The broker, and the accounts that take part.

    `probe` and `other` are devices of the probe's own, each allowed its `probe_topics` and nothing else. `observer` may
    do everything, under any client id: only silence at somebody who would have heard it shows that a message did not
    arrive. It is listened to for `quiet` seconds. Without `plaintext_port` that check stays unknown.
    """

    endpoint: Endpoint
    prefix: str
    probe: Login
    device_id: str
    client_id: str
    other: Login | None
    other_id: str
    other_client_id: str
    observer: Login | None
    plaintext_port: int | None = 1883
    quiet: float = 2.0
    timeout: float = 5.0


def probe_topics(prefix: str, device_id: str) -> tuple[str, ...]:
    """Return what a device of the probe may publish and subscribe. Home Assistant does not listen there."""
    return (f"{prefix}/{VERSION}/{device_id}/probe/up",)


def probe(target: Target, now: float) -> PostureReport:
    """Try everything and report it; whatever the broker does, nothing is raised. Two at a time disturb each other."""
    return _Probe(target, now).run()


@dataclass(slots=True)
class _Attempt:
    """A message that the probe sends, and one of the observer on the same topic, to see that it would be heard."""

    check: Check
    topic: str
    mark: str
    echo: str | None
    """None where the message of the observer would be taken for a device's."""
    watched: bool = False
    code: int = 0

    def payload(self, mark: str) -> str:
        """Return what carries a mark."""
        if self.check is not Check.CONTROL_PUBLISH:
            return mark
        # No such command: nothing is changed, and who may ask is answered with the mark.
        return json.dumps({"commands": [{"command": "grokmonProbe", "correlationData": mark}]})


@dataclass(slots=True)
class _Probe:
    """One run."""

    target: Target
    now: float
    results: dict[Check, CheckResult] = field(default_factory=dict)
    expires: float | None = None
    run_id: str = field(default_factory=lambda: secrets.token_hex(16))
    marks: int = 0

    def run(self) -> PostureReport:
        """Make every check."""
        try:
            trusted = self._transport()
        except OSError, ValueError:
            return self._report("not reachable")
        self._strangers()
        if trusted:
            try:
                with ExitStack() as stack:
                    self._devices(stack)
            except RefusedError as error:
                self._note(Check.OWN_TOPIC, Finding.FAILED, f"refused at connect: {error.code}")
            except BrokerError:
                return self._report("the broker went away")
        return self._report(_NOT_TRIED)

    def _note(self, check: Check, finding: Finding, detail: str = "") -> None:
        self.results[check] = CheckResult(check=check, finding=finding, detail=detail)

    def _report(self, missing: str) -> PostureReport:
        self._settle_strangers()
        unknown = {check: CheckResult(check=check, finding=Finding.UNKNOWN, detail=missing) for check in Check}
        results = tuple((unknown | self.results).values())
        return PostureReport(results=results, at=self.now, certificate_expires=self.expires)

    # Whoever has no account

    def _transport(self) -> bool:
        """Look at TLS and at the port without it; return whether a password may be sent."""
        endpoint, port = self.target.endpoint, self.target.plaintext_port
        door = knock.Door(host=endpoint.host, port=endpoint.port, timeout=self.target.timeout)
        trusted = True
        if endpoint.tls is None:
            knock.reach(door)
            for check in (Check.CERTIFICATE, Check.TLS_VERSION, Check.PLAINTEXT):
                self._note(check, Finding.FAILED, "no TLS")
        else:
            seen = knock.certificate(door, endpoint.tls, self.now)
            trusted, self.expires = seen.trusted, seen.expires
            self._note(Check.CERTIFICATE, seen.finding, seen.detail)
            self._note(Check.TLS_VERSION, *knock.old_tls(door))
            if port is not None:
                self._note(Check.PLAINTEXT, *knock.plaintext(replace(door, port=port)))
        return trusted

    def _strangers(self) -> None:
        """Knock without a password and with a wrong one. No secret is sent, so no certificate is needed."""
        target = self.target
        endpoint = target.endpoint
        if endpoint.tls is not None:
            # Not the context of the endpoint: a client's certificate in it would be a way in.
            endpoint = replace(endpoint, tls=knock.unverified())
        # With the right client id, or it might be that which is refused.
        wrong = Login(target.probe.username, secrets.token_urlsafe())
        self._stranger(Check.ANONYMOUS, Connection(endpoint, _random_client_id(), timeout=target.timeout))
        self._stranger(Check.WRONG_PASSWORD, Connection(endpoint, target.client_id, wrong, timeout=target.timeout))
        plaintext = self.results.get(Check.PLAINTEXT)
        if plaintext is not None and plaintext.detail == knock.LET_IN:
            self._note(Check.ANONYMOUS, Finding.FAILED, "let in without TLS")

    def _stranger(self, check: Check, connection: Connection) -> None:
        try:
            with connection:
                self._note(check, Finding.FAILED, "let in")
        except RefusedError as error:
            finding = Finding.PASSED if error.code in _NO_ENTRY else Finding.UNKNOWN
            self._note(check, finding, f"refused: {error.code}")
        except ClosedError:
            self._note(check, Finding.UNKNOWN, _CLOSED)
        except BrokerError:
            self._note(check, Finding.UNKNOWN, "no answer")

    def _settle_strangers(self) -> None:
        """Take a connection that was closed for a refusal where the right account came in afterwards."""
        own = self.results.get(Check.OWN_TOPIC)
        if own is None or own.finding is not Finding.PASSED:
            return
        for check in (Check.ANONYMOUS, Check.WRONG_PASSWORD):
            if self.results[check].detail == _CLOSED:
                self._note(check, Finding.PASSED, _CLOSED)

    # Whoever has one

    def _devices(self, stack: ExitStack) -> None:
        """Do what a device must not do, wait once, and judge by what arrived."""
        target = self.target
        observer = self._party(stack, _random_client_id(), target.observer)
        # Another connection of the same account: a broker may stop listening to who published what it does not like.
        speaker = self._party(stack, _random_client_id(), target.observer)
        attempts = self._attempts()
        down, down_mark = f"{target.prefix}/{VERSION}/{target.other_id}/down/probe", self._mark()
        (own,), own_mark = probe_topics(target.prefix, target.device_id), self._mark()
        if observer is not None:
            for attempt in attempts:
                attempt.watched = observer.subscribe(attempt.topic) < REFUSED
            observer.subscribe(f"{_CONTROL}/response")
            observer.subscribe(down)
        device = Party(stack, partial(self._connection, target.client_id, target.probe), self.run_id)
        hears = device.subscribe(own) < REFUSED
        for topic_filter in (f"{_CONTROL}/response", down.removesuffix("probe") + "#", "#"):
            device.subscribe(topic_filter)
        for attempt in attempts:
            attempt.code = device.publish(attempt.topic, attempt.payload(attempt.mark))
        # Comes back, should the broker be hanging up for the last of them.
        device.publish(own, self._mark())
        if speaker is not None:
            speaker.publish(down, down_mark)
            speaker.publish(own, own_mark)
            for attempt in attempts:
                if attempt.echo is not None:
                    speaker.publish(attempt.topic, attempt.payload(attempt.echo))
        parties = [party for party in (observer, device) if party is not None]
        ends = monotonic() + target.quiet
        while monotonic() < ends and any(party.open for party in parties):
            for party in parties:
                party.listen(_TURN_S)
        self._judge(attempts, observer, device)
        foreign = [down_mark, *(each.echo for each in attempts if each.check is Check.FOREIGN_PUBLISH)]
        deaf = not device.open or (hears and not device.heard(own_mark))
        self._judge_subscribe(foreign, observer, device, deaf=deaf)
        self._theft(stack, device)

    def _party(self, stack: ExitStack, client_id: str, login: Login | None) -> Party | None:
        """Return an account that takes part, or None where there is none or it is not let in."""
        if login is None:
            return None
        try:
            return Party(stack, partial(self._connection, client_id, login), self.run_id)
        except RefusedError:
            return None

    def _connection(self, client_id: str, login: Login) -> Connection:
        return Connection(self.target.endpoint, client_id, login, timeout=self.target.timeout)

    def _attempts(self) -> list[_Attempt]:
        target = self.target
        (own,), (foreign,) = probe_topics(target.prefix, target.device_id), probe_topics(target.prefix, target.other_id)
        reading = f"{target.prefix}/{VERSION}/{target.other_id}/up/telemetry"
        return [
            _Attempt(Check.FOREIGN_PUBLISH, foreign, self._mark(), self._mark()),
            # Noise that the gateway refuses, should it get through.
            _Attempt(Check.FOREIGN_PUBLISH, reading, self._mark(), None),
            _Attempt(Check.DISCOVERY_PUBLISH, f"{_DISCOVERY}/{self._mark()}", self._mark(), self._mark()),
            # After the others: the way was open until then.
            _Attempt(Check.OWN_TOPIC, own, self._mark(), None),
            # aMQTT goes on answering, but drops all that a client publishes after a topic with a dollar.
            _Attempt(Check.CONTROL_PUBLISH, _CONTROL, self._mark(), self._mark()),
        ]

    def _mark(self) -> str:
        self.marks += 1
        return f"{self.run_id}{self.marks:02}"

    def _judge(self, attempts: list[_Attempt], observer: Party | None, device: Party) -> None:
        for check in dict.fromkeys(attempt.check for attempt in attempts):
            mine = [attempt for attempt in attempts if attempt.check is check]
            if check is not Check.OWN_TOPIC:
                arrived = any(party.heard(each.mark) for party in (observer, device) if party for each in mine)
                self._note(check, *self._refused(mine, observer, arrived=arrived))
            elif (observer or device).heard(mine[0].mark):
                self._note(check, Finding.PASSED)
            elif observer is None or not observer.open:
                self._note(check, Finding.UNKNOWN, "nobody listened")
            else:
                self._note(check, Finding.FAILED, f"did not arrive: {mine[0].code}")

    def _refused(self, mine: list[_Attempt], observer: Party | None, *, arrived: bool) -> tuple[Finding, str]:
        """Return whether what was sent was kept out: by the reason where there is one, and by the silence."""
        check, codes = mine[0].check, [attempt.code for attempt in mine]
        if arrived:
            return Finding.FAILED, "arrived"
        if self.target.endpoint.protocol is Protocol.V5 and min(codes) < REFUSED:
            # The broker says that it took it. That it arrived, which would mean more, was not seen.
            unseen = check is Check.FOREIGN_PUBLISH
            return (Finding.UNKNOWN if unseen else Finding.FAILED), f"accepted: {min(codes)}"
        if observer is None or not observer.open:
            return Finding.UNKNOWN, "nobody listened"
        if all(REFUSED <= code < HUNG_UP for code in codes):
            # What is behind $CONTROL answers to who asks; few others may listen to it.
            if check is Check.CONTROL_PUBLISH or all(attempt.watched for attempt in mine):
                return Finding.PASSED, f"refused: {max(codes)}"
        elif all(attempt.watched for attempt in mine if attempt.echo is None) and all(
            observer.heard(attempt.echo) for attempt in mine if attempt.echo is not None
        ):
            return Finding.PASSED, "did not arrive"
        return Finding.UNKNOWN, "nobody would have heard it"

    def _judge_subscribe(self, foreign: list[str | None], observer: Party | None, device: Party, *, deaf: bool) -> None:
        if any(device.heard(mark) for mark in foreign):
            self._note(Check.FOREIGN_SUBSCRIBE, Finding.FAILED, "received")
        elif not deaf and observer is not None and observer.heard(foreign[0]):
            self._note(Check.FOREIGN_SUBSCRIBE, Finding.PASSED)
        else:
            self._note(Check.FOREIGN_SUBSCRIBE, Finding.UNKNOWN, "nothing was there to receive")

    def _theft(self, stack: ExitStack, device: Party) -> None:
        """Connect each device with the client id of the other, which must not lose its connection."""
        target = self.target
        other = self._party(stack, target.other_client_id, target.other)
        if other is None or target.other is None:
            self._note(Check.CLIENT_ID_THEFT, Finding.UNKNOWN, "no second device")
            return
        (own,), (foreign,) = probe_topics(target.prefix, target.device_id), probe_topics(target.prefix, target.other_id)
        there = self._robbed(other, partial(self._connection, target.other_client_id, target.probe), foreign)
        if there is Finding.PASSED:
            there = self._robbed(device, partial(self._connection, target.client_id, target.other), own)
        details = {Finding.FAILED: "another account took it over", Finding.UNKNOWN: "let in"}
        self._note(Check.CLIENT_ID_THEFT, there, details.get(there, ""))

    def _robbed(self, victim: Party, thief: Callable[[], Connection], topic: str) -> Finding:
        """Let somebody come with the client id of the victim; return whether the victim still speaks and hears."""
        hears = victim.subscribe(topic) < REFUSED
        if not self._there(victim, topic, hears=hears):
            raise UnreachableError("it was not there before")
        try:
            with thief():
                # Let in. Not every broker drives the other out: aMQTT leaves it open and deaf.
                with suppress(ClosedError):
                    victim.connection.receive(_GRACE_S, lambda _: False)
                there = self._there(victim, topic, hears=hears)
        except RefusedError, ClosedError:
            return Finding.PASSED if self._there(victim, topic, hears=hears) else Finding.FAILED
        if there and not hears:
            return Finding.UNKNOWN
        return Finding.PASSED if there else Finding.FAILED

    def _there(self, party: Party, topic: str, *, hears: bool) -> bool:
        """Tell whether the broker answers on a connection, and delivers to it."""
        mark = self._mark().encode()
        try:
            party.connection.publish(topic, mark)
            return not hears or party.connection.receive(_GRACE_S, lambda each: each.payload == mark) is not None
        except ClosedError:
            return False


def _random_client_id() -> str:
    # Brokers need not accept more than 23 characters.
    return f"grokmon-{secrets.token_hex(6)}"
