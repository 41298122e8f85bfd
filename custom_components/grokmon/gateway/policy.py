"""Policy: whether a command may be carried out, and if not, why, what is left, and when it frees up.

Turning off is never judged here. Everything else passes the same rules in the same order, whoever asks: bounds, faults
and interlocks, the dark period, budgets, then the limits of the caller's class, and its rate last, so that a refusal by
any other rule costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Any, Final

from .actuators import Command, Key, Kind, Moment, Role, normalise
from .errors import Code, PolicyError, RegistryError, in_units
from .interlocks import Interlocks
from .ledger import Ledger
from .outputs import Output
from .principals import Caller, Principal
from .ratelimit import TokenBucket
from .zones import DAY_S, HOUR_S, Stage, Zone

_MINUTE_S: Final = 60.0
_MOST: Final = 1e6
# In spring a day begins 23 hours after the last one; a lamp ends a second late; and after a crash minutes count in
# which it may not have burned. Judged by 24 hours it would be refused on the next morning, and whoever switches it on
# once a day would leave it off until the one after.
LAMP_DAY_S: Final = DAY_S - HOUR_S - 900.0
# Between the starts of two loads.
STAGGER_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLimits:
    """What one class of callers may do beyond what holds for everybody.

    `rate` is in commands a minute for each output, `hold_s` how long a command keeps lower classes away from an
    output, `day_ml` the water of a zone in 24 hours.
    """

    rate: int = 5
    hold_s: float = 0.0
    max_percent: float = 100.0
    min_dose_ml: float = 0.0
    max_dose_ml: float = 1000.0
    day_ml: float | None = None
    min_inject_s: float = 1.0
    max_inject_s: float = 120.0


LIMITS: Final[Mapping[Caller, ClassLimits]] = {
    Caller.PERSON: ClassLimits(hold_s=300.0),
    Caller.AUTOMATION: ClassLimits(),
    Caller.VOICE: ClassLimits(),
    Caller.AI: ClassLimits(max_percent=90.0, min_dose_ml=50.0, max_dose_ml=500.0, day_ml=2000.0, min_inject_s=15.0),
}


@dataclass(frozen=True, slots=True)
class Site:
    """An output in its place. `siblings` are all outputs of its zone, itself included: they share its budgets."""

    output: Output
    zone: Zone | None
    siblings: Sequence[Output]

    @property
    def zone_id(self) -> str | None:
        """Return the identifier of the zone."""
        return None if self.zone is None else self.zone.zone_id

    def keys(self, role: Role) -> list[Key]:
        """Return the outputs of the zone with a role."""
        return [each.key for each in self.siblings if each.actuator.role is role]


@dataclass(frozen=True, slots=True)
class _Budget:
    """An amount that some outputs may give together within a window of seconds: water or CO2 of an output or a zone."""

    what: str
    whose: str
    unit: str
    limit: float
    window: float
    keys: list[Key]


@dataclass(slots=True)
class Policy:
    """Judge commands by the ledger, the interlocks, and what is set for zones and classes.

    `overrides` are the steady times until which an administrator let lights burn in the dark period, by zone.
    """

    ledger: Ledger
    interlocks: Interlocks
    limits: Mapping[Caller, ClassLimits] = field(default_factory=lambda: LIMITS)
    ai_allowed: bool = True
    overrides: dict[str, float] = field(default_factory=dict)
    _buckets: dict[tuple[Key | None, Caller], TokenBucket] = field(default_factory=dict)
    _starts: dict[Key, float] = field(default_factory=dict)

    def judge(self, command: Command, site: Site, who: Principal, now: Moment) -> Command:
        """Return the command in its normal form if it may be carried out; raise PolicyError otherwise."""
        wanted = normalise(command, site.output.actuator)
        if not wanted.energises:
            return wanted
        self._faultless(site.output)
        self._interlocks(site)
        if who.caller is not Caller.SYSTEM:
            self._sensors(site, now, running=False)
            self._driven(site)
        self._photoperiod(site, now)
        self._budgets(wanted, site, now)
        if who.caller is not Caller.SYSTEM:
            self._class(wanted, site, who, now)
            self._held(site.output, who, now)
            self._rest(site.output, now)
            self._rate(site.output.key, who, now)
        return wanted

    def sustain(self, site: Site, now: Moment) -> None:
        """Raise PolicyError when an output that is on may not go on."""
        self._faultless(site.output)
        self._interlocks(site)
        self._sensors(site, now, running=True)
        self._photoperiod(site, now)
        self._lamp(site, now)
        if (wish := site.output.wish) is not None:
            # Its limits may have been changed since.
            normalise(wish.order.command, site.output.actuator)
        if site.output.wished_by is Caller.AI and not self.ai_allowed:
            raise PolicyError(Code.AI_BLOCKED, "the AI is switched off")

    def judge_stage(self, zone: Zone, stage: Stage, who: Principal) -> None:
        """Raise PolicyError when a caller may not bring a zone to a stage.

        The AI moves it forward only: an earlier stage has longer light days, by which it could leave the dark period.
        """
        if who.caller is not Caller.AI:
            return
        self._unblocked(who)
        order = list(Stage)
        if order.index(stage) < order.index(zone.stage):
            raise PolicyError(
                Code.AI_LIMIT,
                f"the AI moves {zone.name} forward only, not from {zone.stage} to {stage}",
                variant="stage",
                values={"zone": zone.name},
            )

    def judge_dose(self, dose: Command, who: Principal) -> None:
        """Raise PolicyError when the AI sets for others, who have other limits, a dose that it may not give."""
        if who.caller is Caller.AI:
            self._unblocked(who)
            self._bounds(dose, self.limits[who.caller], who.caller)

    def judge_note(self, who: Principal, now: Moment) -> None:
        """Raise PolicyError when a caller writes more notes into the audit trail than the class has commands."""
        self._rate(None, who, now)

    def start_delay(self, output: Output, now: float) -> float:
        """Return the seconds to wait before an output is switched on, and keep the place in the queue of loads."""
        if not output.actuator.is_load or output.is_on:
            return 0.0
        # One place for each: who is refused in the end and asks again does not push the others back.
        start = self._starts.get(output.key, -inf)
        if start <= now:
            start = self._starts[output.key] = max(now, max(self._starts.values(), default=-inf) + STAGGER_S)
        return start - now

    def water_left(self, zone: Zone, pumps: list[Key], now: float) -> float:
        """Return the millilitres that the pumps of a zone may still give."""
        return max(0.0, zone.water_budget - self.ledger.given(now, DAY_S, keys=pumps))

    def with_limits(self, limits: Mapping[Caller, ClassLimits]) -> None:
        """Take over other limits of the classes."""
        self.limits = limits
        self._buckets.clear()

    def _faultless(self, output: Output) -> None:
        if output.fault is not None:
            raise PolicyError(
                Code.OUTPUT_FAULT,
                f"{output.key} has a fault ({output.fault}) that an administrator has to reset",
                values={"fault": output.fault},
            )

    def _interlocks(self, site: Site) -> None:
        blocking = self.interlocks.blocking(site.output.actuator, site.zone_id)
        if blocking is not None:
            raise PolicyError(
                Code.INTERLOCKED, f"the interlock {blocking} keeps {site.output.key} off", variant=blocking.value
            )

    def _sensors(self, site: Site, now: Moment, *, running: bool) -> None:
        stale = self.interlocks.stale(site.output.actuator, site.zone_id, now.steady, running=running)
        if stale is not None:
            raise PolicyError(
                Code.SENSOR_STALE, f"no sensor says lately and plausibly what {stale} is", values={"metric": stale}
            )

    def _driven(self, site: Site) -> None:
        driving = self.interlocks.exhausting(site.zone_id)
        if site.output.forced and driving is not None:
            raise PolicyError(Code.INTERLOCKED, f"the interlock {driving} drives {site.output.key}", variant="driven")

    def _photoperiod(self, site: Site, now: Moment) -> None:
        zone = site.zone
        if zone is None or site.output.actuator.kind is not Kind.LIGHT or not zone.is_dark(now.day_s):
            return
        if self._overridden(zone, now):
            return
        left = zone.until_light_change(now.day_s)
        raise PolicyError(
            Code.DARK_PERIOD,
            f"it is the dark period of {zone.name}, stage {zone.stage}{_when(left)}",
            variant="always" if left is None else "",
            values={"zone": zone.name},
            frees_in_s=left,
        )

    def _overridden(self, zone: Zone, now: Moment) -> bool:
        return now.steady < self.overrides.get(zone.zone_id, 0.0)

    def _budgets(self, wanted: Command, site: Site, now: Moment) -> None:
        output, zone = site.output, site.zone
        actuator, own = output.actuator, [output.key]
        if wanted.amount_ml is not None:
            self._interval(output, now.steady)
            self._within(wanted.amount_ml, _Budget("water", str(output.key), "mL", actuator.day_ml, DAY_S, own), now)
            if zone is not None:
                pumps = site.keys(Role.IRRIGATION)
                budget = _Budget("water", zone.name, "mL", zone.water_budget, DAY_S, pumps)
                self._within(wanted.amount_ml, budget, now)
        elif wanted.seconds is not None:
            self._interval(output, now.steady)
            self._within(wanted.seconds, _Budget("CO2", str(output.key), "s", actuator.hour_s, HOUR_S, own), now)
            if zone is not None:
                valves = site.keys(Role.CO2_VALVE)
                budget = _Budget("CO2", zone.name, "s", zone.co2_hour_s, HOUR_S, valves)
                self._within(wanted.seconds, budget, now)
        self._lamp(site, now)

    def _interval(self, output: Output, now: float) -> None:
        last = self.ledger.last_dose(output.key)
        if last is None or now - last >= output.actuator.interval_s:
            return
        left = last + output.actuator.interval_s - now
        raise PolicyError(
            Code.DOSE_TOO_SOON,
            f"{output.key} gives one dose in {output.actuator.interval_s:g} s{_when(left)}",
            limit=output.actuator.interval_s,
            frees_in_s=left,
        )

    def _within(self, wanted: float, budget: _Budget, now: Moment) -> None:
        limit, window = budget.limit, budget.window
        left = max(0.0, limit - self.ledger.given(now.steady, window, keys=budget.keys))
        if wanted <= left:
            return
        frees = self.ledger.frees_in(now.steady, window, budget.keys, wanted - left) if wanted <= limit else None
        hours = "24 hours" if window == DAY_S else "an hour"
        raise PolicyError(
            Code.BUDGET_EXCEEDED,
            f"the {budget.what} of {budget.whose}: "
            f"at most {limit:g} {budget.unit} in {hours}, {left:g} {budget.unit} left{_when(frees)}",
            variant="too_much" if frees is None else "",
            values={"whose": budget.whose, "unit": budget.unit, "hours": f"{window / HOUR_S:g}"},
            limit=limit,
            left=left,
            frees_in_s=frees,
        )

    def _lamp(self, site: Site, now: Moment) -> None:
        """Refuse a lamp that has burned for as long as it may."""
        actuator = site.output.actuator
        if actuator.kind is not Kind.LIGHT:
            return
        limits = [] if actuator.hours_day is None else [actuator.hours_day * HOUR_S]
        # An override is for somebody who has to see something, not more light for the plants.
        if site.zone is not None and not self._overridden(site.zone, now):
            limits.append(site.zone.lamp_budget_s)
        if not limits or self.ledger.burned(site.output.key, now.steady, LAMP_DAY_S) < min(limits):
            return
        hours = min(limits) / HOUR_S
        frees = self.ledger.burns_less_in(site.output.key, now.steady, LAMP_DAY_S, min(limits))
        raise PolicyError(
            Code.BUDGET_EXCEEDED,
            f"the light of {site.output.key}: at most {hours:g} h in 24 hours, 0 h left{_when(frees)}",
            variant="light",
            limit=hours,
            left=0.0,
            frees_in_s=frees,
        )

    def _class(self, wanted: Command, site: Site, who: Principal, now: Moment) -> None:
        limits = self.limits[who.caller]
        self._unblocked(who)
        self._bounds(wanted, limits, who.caller)
        if wanted.amount_ml is not None and limits.day_ml is not None:
            pumps = site.keys(Role.IRRIGATION)
            left = max(0.0, limits.day_ml - self.ledger.given(now.steady, DAY_S, keys=pumps, caller=who.caller))
            if wanted.amount_ml > left:
                raise PolicyError(
                    Code.BUDGET_EXCEEDED,
                    f"the water of the class {who.caller}: at most {limits.day_ml:g} mL in 24 hours, {left:g} mL left",
                    variant="class",
                    limit=limits.day_ml,
                    left=left,
                )
        if site.output.actuator.needs_approval and who.caller is Caller.AI and who.approved_by is None:
            raise PolicyError(
                Code.APPROVAL_REQUIRED, f"an administrator has to approve what the AI does to {wanted.key}"
            )

    def _unblocked(self, who: Principal) -> None:
        if who.caller is Caller.AI and not self.ai_allowed:
            raise PolicyError(Code.AI_BLOCKED, "the AI is switched off; it may only turn things off")

    @staticmethod
    def _bounds(wanted: Command, limits: ClassLimits, caller: Caller) -> None:
        for what, unit, value, low, high in (
            ("percent", "%", wanted.percent, 0.0, limits.max_percent),
            ("dose", "mL", wanted.amount_ml, limits.min_dose_ml, limits.max_dose_ml),
            ("injection", "s", wanted.seconds, limits.min_inject_s, limits.max_inject_s),
        ):
            if value is not None and not low <= value <= high:
                raise PolicyError(
                    Code.AI_LIMIT if caller is Caller.AI else Code.LIMIT_EXCEEDED,
                    f"{what} for the class {caller}: {low:g} to {high:g} {unit}",
                    values={"low": f"{low:g}", "high": f"{high:g}", "unit": unit},
                    limit=high,
                )

    def _held(self, output: Output, who: Principal, now: Moment) -> None:
        pending = output.pending
        if pending is not None and pending.command.energises and pending.principal.caller.rank < who.caller.rank:
            raise PolicyError(
                Code.HELD, f"a command of the class {pending.principal.caller} is on its way", variant="pending"
            )
        holder = output.held_by
        # A dose is over when it is over: there is nothing that a second one would take from whoever gave the first.
        if holder is None or output.actuator.ends_by_itself or holder.rank >= who.caller.rank:
            return
        left = output.commanded_at + self.limits[holder].hold_s - now.steady
        if left > 0:
            raise PolicyError(
                Code.HELD, f"the class {holder} set {output.key} and comes first{_when(left)}", frees_in_s=left
            )

    def _rest(self, output: Output, now: Moment) -> None:
        """Keep a load off for its minimum time, and for what was missing of its minimum time on."""
        left = output.ready_at(now.steady) - now.steady
        if left > 0:
            raise PolicyError(
                Code.MINIMUM_OFF_TIME, f"{output.key} has to stay off for a while{_when(left)}", frees_in_s=left
            )

    def _rate(self, key: Key | None, who: Principal, now: Moment) -> None:
        rate = self.limits[who.caller].rate
        bucket = self._buckets.setdefault((key, who.caller), TokenBucket(rate, _MINUTE_S))
        if not bucket.take(now.steady):
            left = _MINUTE_S / rate
            what = "notes a minute" if key is None else f"commands a minute for {key}"
            raise PolicyError(
                Code.CONTROL_RATE,
                f"at most {rate} {what} from the class {who.caller}{_when(left)}",
                limit=rate,
                left=0.0,
                frees_in_s=left,
            )


def limits_from(
    data: Mapping[str, Mapping[str, Any]], base: Mapping[Caller, ClassLimits] = LIMITS
) -> dict[Caller, ClassLimits]:
    """Return the limits of the classes with what was changed about `base`, from plain data.

    Raises RegistryError for a class or a limit that there is none of, or that is no number to reckon with.
    """
    known = {each.name for each in fields(ClassLimits)}
    for caller, changed in data.items():
        if caller not in base:
            raise RegistryError(Code.FIELD_INVALID, f"limits.{caller}")
        for name, value in changed.items():
            unlimited = value is None and name == "day_ml"
            least = 1 if name == "rate" else 0
            number = type(value) in {int, float} and least <= value <= _MOST
            if name not in known or not (unlimited or number):
                raise RegistryError(Code.FIELD_INVALID, f"limits.{caller}.{name}")
    return {caller: replace(limits, **data.get(caller.value, {})) for caller, limits in base.items()}


def _when(seconds: float | None) -> str:
    """Return when a rule frees up, in words that need no clock."""
    return "" if seconds is None else f"; frees up in {in_units(seconds)}"
