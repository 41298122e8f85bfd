"""What the soak judges by: the growth of memory, and Home Assistant's log."""

import pytest

from scripts.soaking.verdict import Verdict, judge_log
from scripts.soaking.watch import Sample, slope

GOOD = "2026-11-26 10:00:00.000 INFO (MainThread) [custom_components.grokmon.hub] Tent 1 is heard"
MQTT_AWAY = "2026-11-26 10:00:00.000 ERROR (Thread-1) [homeassistant.components.mqtt.client] Failed to connect: refused"
BAD = {
    "error": "2026-11-26 10:00:00.000 ERROR (MainThread) [homeassistant] Error doing job",
    "mqtt": "2026-11-26 10:00:00.000 ERROR (Thread-1) [homeassistant.components.mqtt.client] Exception in a callback",
    "ours": "2026-11-26 10:00:00.000 WARNING (MainThread) [custom_components.grokmon.hub] Something else",
    "blocking": "2026-11-26 10:00:00.000 WARNING (MainThread) [homeassistant.util.loop] Detected blocking call to open",
    "slow": "2026-11-26 10:00:00.000 WARNING (MainThread) [asyncio] Executing <Handle> took 0.523 seconds",
}


def _samples(megabytes_per_minute: float, warm_up: int = 20) -> list[Sample]:
    """Return an hour of samples whose memory grows steadily after a steep beginning."""
    return [
        Sample(
            at=60.0 * minute,
            memory_mb=300 + megabytes_per_minute * minute - 50 * max(0, warm_up - minute) / warm_up,
            threads=14,
            files=24,
            cpu_percent=9.0,
            audit_bytes=0,
            staging_bytes=0,
            stale=0,
        )
        for minute in range(60)
    ]


@pytest.mark.parametrize("growth", [-0.2, 0.0, 0.05, 1.0])
def test_growth(growth: float) -> None:
    """The growth of ten minutes, without the beginning."""
    assert slope(_samples(growth)) == pytest.approx(10 * growth, abs=1e-9)


def test_growth_of_nothing() -> None:
    """There is no line through one point."""
    assert slope(_samples(1.0)[:1]) == 0.0


def test_good_log() -> None:
    """Nobody minds what MQTT says of a broker that was ended."""
    verdict = Verdict()
    loggers = judge_log([GOOD, MQTT_AWAY, "Traceback (most recent call last):"], verdict)
    assert verdict.ok
    assert loggers == {"ERROR homeassistant.components.mqtt.client": 1}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD)
def test_bad_log(line: str) -> None:
    """One line is enough, and it is in the table."""
    verdict = Verdict()
    judge_log([GOOD, line], verdict)
    assert not verdict.ok
    assert line.partition("] ")[2] in verdict.text()
    assert "**missed**" in verdict.text()
