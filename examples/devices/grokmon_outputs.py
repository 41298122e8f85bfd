"""The outputs of a grokmon device: what commands may do with them, and when they end by themselves.

Goes beside grokmon_device.py on a device that switches something; the same file for Python and for MicroPython.
"""

import _thread
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_LEASE_S, MAX_PERCENT, MAX_DOSE_ML = 3600, 100, 1000
STATE_EVERY_MS, RETRY_MS, ROUNDING_S, ROUNDING_MS = 30_000, 1_000, 1, 10
GUARD_EVERY_S, REST_TRIES = 0.05, 5
# What each action can drive, and its one parameter.
ACTIONS = {
    "set_light_intensity": ("light", "intensity_percent"),
    "set_fan_speed": ("fan", "speed_percent"),
    "set_switch": ("switch", "on"),
    "trigger_irrigation": ("pump", "amount_ml"),
}
OTHERS = ("stop", "renew", "identify")
TICKS = 0x3FFF_FFFF


class RejectedError(Exception):
    """A command that is not carried out; the text is the reason in the answer."""


class Uptime:
    """Count milliseconds. MicroPython's counter starts again every twelve days; this one does not."""

    def __init__(self) -> None:
        self._total, self._last = 0, self._ticks()

    def __call__(self) -> int:
        """Give the milliseconds since the start."""
        now = self._ticks()
        self._total += (now - self._last) & TICKS
        self._last = now
        return self._total

    @staticmethod
    def _ticks() -> int:
        if hasattr(time, "ticks_ms"):
            return int(time.ticks_ms())
        return time.monotonic_ns() // 1_000_000 & TICKS


class Output:
    """Hold what one output is, and what it does until when, in milliseconds since the start."""

    def __init__(self, spec: "dict[str, Any]") -> None:
        self.kind = spec["kind"]
        if self.kind not in [kind for kind, _ in ACTIONS.values()]:
            raise ValueError("no such kind of output: " + str(self.kind))
        self.has_percent = self.kind in ("light", "fan")
        self.low, self.high = spec.get("min_percent", 0), spec.get("max_percent", MAX_PERCENT)
        self.safe = spec.get("safe_percent", 0) if self.kind == "fan" else 0
        self.ml_per_s, self.max_run_ms = spec.get("ml_per_s", 25), round(spec.get("max_run_s", 60) * 1000)
        self.on, self.percent, self.reason = False, 0.0, "boot"
        self.cid: str | None = None
        self.lease_ends: int | None = None
        self.run_ends: int | None = None

    def ends(self) -> int | None:
        """Tell when it ends by itself."""
        return min([end for end in (self.lease_ends, self.run_ends) if end is not None], default=None)

    def state(self, now: int) -> "dict[str, Any]":
        """Give what it does as a message holds it."""
        state: dict[str, Any] = {"on": self.on, "reason": self.reason}
        if self.has_percent:
            state["percent"] = self.percent
        if self.lease_ends is not None:
            state["lease_left_s"] = max(0, -((now - self.lease_ends) // 1000))
        if self.cid is not None:
            state["cid"] = self.cid
        return state


class Outputs:
    """Carry out commands, end what nobody prolongs, and say what the outputs do.

    `apply(name, on, percent)` drives an output; `percent` is None for switches and pumps. It is called at the start to
    turn everything off, and later by the thread of `guard`, too: it must not wait for anything, nor use this object.
    `identify()` shows a person which device this is.
    """

    def __init__(
        self,
        specs: "dict[str, dict[str, Any]]",
        apply: "Callable[[str, bool, float | None], object]",
        identify: "Callable[[], object]" = lambda: print("this is the device"),
        clock: "Callable[[], int] | None" = None,
    ) -> None:
        self._apply, self._identify, self._clock = apply, identify, clock or Uptime()
        self._lock = _thread.allocate_lock()
        self._outputs = {name: Output(spec) for name, spec in specs.items()}
        self._sid = ""
        # The last command by session: one that is left may be played back later, and its commands with it.
        self._spent: list[tuple[str, int]] = []
        self._counters = {"state": 0, "ack": 0}
        # Answers as (cid, result, reason, outputs); None stands for a state, which is made when it goes out.
        self._due: list[tuple[str, str, str, list[str]] | None] = []
        self._state_at = 0
        # Home Assistant's clock is this many milliseconds before ours; set by what was newest so far.
        self._clock_offset, self._clock_set_to = 0, 0
        self._guarded_at = self._clock()
        for name in self._outputs:
            self._set(name, "boot", on=False)

    def __len__(self) -> int:
        return len(self._outputs)

    def guard(self) -> None:
        """End outputs in time in a thread of its own, however long the network keeps the program waiting."""
        _thread.start_new_thread(self._guard, ())

    def session(self, sid: str, told: int) -> None:
        """Note the session, and what time Home Assistant said it was."""
        with self._lock:
            if sid != self._sid:
                self._sid, self._due = sid, []
            # The first message under a session makes it count; after a disconnection nobody knows what got through.
            self._due = [None] + [answer for answer in self._due if answer is not None]
            self._set_clock(told, self._clock(), backwards=True)

    def command(self, claims: "dict[str, Any]") -> bool:
        """Take a command that was found to be signed; tell whether it came so late that the clock is in doubt."""
        with self._lock:
            now = self._clock()
            if not self._is_next(claims):
                return False
            self._spent = [(sid, seq) for sid, seq in self._spent if sid != self._sid]
            self._spent.append((self._sid, claims["seq"]))
            self._tick(now)
            late = bool(self._clock_offset + now > (claims["iat"] + claims["ttl_s"] + ROUNDING_S) * 1000)
            if late:
                result, reason = "rejected", "expired"
            else:
                self._set_clock(claims["iat"], now, backwards=False)
                result, reason = self._judge(claims, now)
            self._due.append((claims["cid"], result, reason, self._about(claims)))
        if result == "done" and claims["action"] == "identify":
            try:
                self._identify()
            except Exception as error:  # noqa: BLE001 - a lamp that does not blink ends no program
                _say("cannot identify", error)
        return late

    def by_hand(self, name: str, *, on: bool, percent: float = 0) -> None:
        """Set an output as somebody at the device wants it; without a command there is no lease."""
        with self._lock:
            output = self._outputs[name]
            run_ends = self._clock() + output.max_run_ms if on and output.kind == "pump" else None
            self._set(name, "local", on=on, percent=percent, run_ends=run_ends)
            self._owe_state()

    def is_guarded(self) -> bool:
        """Tell whether what is due was ended lately; feed a watchdog only then."""
        with self._lock:
            return self._clock() - self._guarded_at < RETRY_MS

    def rest(self) -> None:
        """Bring all outputs to rest, since the program ends: nobody tries again later."""
        # A signal that comes just when the lock is taken leaves it so for ever (Python 3.14): then it goes without.
        taken = self._lock.acquire(True, RETRY_MS // 1000)
        names = list(self._outputs)
        for _ in range(REST_TRIES):
            names = [name for name in names if not self._rest(name, "safe")]
            if not names:
                break
            time.sleep(RETRY_MS / 1000)
        if taken:
            self._lock.release()

    def tick(self) -> None:
        """End what is due."""
        # The clock counts on from the last look at it: two threads may not look at once.
        with self._lock:
            now = self._clock()
            self._tick(now)
            self._guarded_at = now

    def next_message(self) -> "tuple[str, dict[str, Any]] | None":
        """Give the channel and the body of what has to be said next; it goes before readings."""
        with self._lock:
            now = self._clock()
            self._tick(now)
            if now - self._state_at >= STATE_EVERY_MS:
                self._owe_state()
            if not self._due or not self._sid or not self._outputs:
                return None
            answer = self._due.pop(0)
            body: dict[str, Any] = {}
            channel, names = "state", list(self._outputs)
            if answer is None:
                self._state_at = now
            else:
                channel, names = "ack", answer[3]
                body = {"cid": answer[0], "result": answer[1]}
                if answer[2]:
                    body["reason"] = answer[2]
            if names:
                body["actuators"] = {name: self._outputs[name].state(now) for name in names}
            self._counters[channel] += 1
            body.update(sid=self._sid, seq=self._counters[channel])
            return channel, body

    def _guard(self) -> None:
        while True:
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - the next turn tries again; the watchdog looks whether one worked
                _say("the outputs could not be looked at", error)
            time.sleep(GUARD_EVERY_S)

    def _tick(self, now: int) -> None:
        for name, output in self._outputs.items():
            ends = output.ends()
            if ends is None or now < ends:
                continue
            self._owe_state()
            if not self._rest(name, "done" if ends == output.run_ends else "lease"):
                # Nothing prolongs it any more: it is tried again until it works.
                output.cid, output.lease_ends, output.run_ends = None, now + RETRY_MS, None

    def _is_next(self, claims: "dict[str, Any]") -> bool:
        numbers = [claims.get(name) for name in ("seq", "iat", "ttl_s")]
        if type(claims.get("cid")) is not str or [True for number in numbers if type(number) is not int]:
            return False
        last = max([seq for sid, seq in self._spent if sid == self._sid], default=0)
        return self._sid != "" and claims.get("sid") == self._sid and bool(claims["seq"] > last)

    def _set_clock(self, told: int, now: int, *, backwards: bool) -> None:
        # Only by what is newer than all before: an answer that is played back must not make old commands fresh again.
        offset = told * 1000 - now
        if told > self._clock_set_to:
            if backwards or offset > self._clock_offset:
                self._clock_offset = offset
            self._clock_set_to = told

    def _owe_state(self) -> None:
        if None not in self._due:
            self._due.append(None)

    def _about(self, claims: "dict[str, Any]") -> list[str]:
        name = claims.get("actuator")
        if name is None:
            return list(self._outputs) if claims.get("action") == "stop" else []
        return [name] if name in list(self._outputs) else []

    def _judge(self, claims: "dict[str, Any]", now: int) -> tuple[str, str]:
        try:
            done = self._carry_out(claims, now)
        except RejectedError as error:
            return "rejected", str(error)
        return ("done", "") if done else ("failed", "broken")

    def _carry_out(self, claims: "dict[str, Any]", now: int) -> bool:
        action, name, params = claims.get("action"), claims.get("actuator"), claims.get("params")
        if action not in list(ACTIONS) and action not in OTHERS:
            raise RejectedError("unknown_action")
        if name is None and action in ("stop", "identify"):
            _check_params(params, [])
            names = list(self._outputs) if action == "stop" else []
            return False not in [self._rest(each, "stopped") for each in names]
        if name not in list(self._outputs):
            raise RejectedError("unknown_actuator")
        if action == "identify":
            raise RejectedError("invalid")
        if action == "stop":
            _check_params(params, [])
            return self._rest(name, "stopped")
        if action == "renew":
            return self._renew(self._outputs[name], claims, now)
        return self._drive(name, claims, now)

    @staticmethod
    def _renew(output: Output, claims: "dict[str, Any]", now: int) -> bool:
        of = _check_params(claims.get("params"), ["of"])["of"]
        if type(of) is not str:
            raise RejectedError("invalid")
        lease_ends = now + _lease_ms(claims)
        if not output.on or output.cid != of:
            raise RejectedError("not_running")
        output.lease_ends = lease_ends
        return True

    def _drive(self, name: str, claims: "dict[str, Any]", now: int) -> bool:
        output = self._outputs[name]
        kind, parameter = ACTIONS[claims["action"]]
        if kind != output.kind:
            raise RejectedError("unknown_action")
        value = _check_params(claims.get("params"), [parameter])[parameter]
        if not _is_valid(kind, value):
            raise RejectedError("invalid")
        if not value:
            return self._set(name, "command", on=False)
        lease_ends, run_ends, percent = now + _lease_ms(claims), None, 0
        if output.has_percent:
            percent = value
            if not output.low <= percent <= output.high:
                raise RejectedError("limit")
        if kind == "pump":
            run_ms = round(value * 1000 / output.ml_per_s)
            # Boards reckon with 24 bits: what is only rounded is not longer.
            if run_ms > output.max_run_ms + ROUNDING_MS:
                raise RejectedError("limit")
            run_ends = now + min(run_ms, output.max_run_ms)
        return self._set(
            name, "command", on=True, percent=percent, cid=claims["cid"], lease_ends=lease_ends, run_ends=run_ends
        )

    def _rest(self, name: str, reason: str) -> bool:
        safe = self._outputs[name].safe
        return self._set(name, reason, on=safe > 0, percent=safe)

    def _set(
        self,
        name: str,
        reason: str,
        *,
        on: bool,
        percent: float = 0,
        cid: str | None = None,
        lease_ends: int | None = None,
        run_ends: int | None = None,
    ) -> bool:
        output = self._outputs[name]
        try:
            self._apply(name, on, percent if output.has_percent else None)
        except Exception as error:  # noqa: BLE001 - whatever one driver does, the other outputs have to end in time
            _say("cannot drive", name, error)
            ends = output.ends()
            if cid is None or ends is None:
                # It may be on all the same: it is brought to rest again and again until that works.
                retry = self._clock() + RETRY_MS
                output.cid, output.lease_ends = None, retry if ends is None else min(ends, retry)
            return False
        output.on, output.percent, output.reason = on, percent, reason
        output.cid, output.lease_ends, output.run_ends = cid, lease_ends, run_ends
        return True


def _say(*words: object) -> None:
    try:
        print(*words)
    except Exception:  # noqa: BLE001 - nobody reads it any more; what has to end still ends
        return


def _check_params(params: object, names: list[str]) -> "dict[str, Any]":
    if not isinstance(params, dict) or sorted(params) != names:
        raise RejectedError("invalid")
    return params


def _is_valid(kind: str, value: object) -> bool:
    if kind == "switch":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 < value <= MAX_DOSE_ML if kind == "pump" else 0 <= value <= MAX_PERCENT


def _lease_ms(claims: "dict[str, Any]") -> int:
    lease = claims.get("lease_s")
    if type(lease) is not int or not 1 <= lease <= MAX_LEASE_S:
        raise RejectedError("invalid")
    return lease * 1000
