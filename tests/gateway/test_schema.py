"""Tests of the bodies: only what the protocol names gets through, and it gets through unchanged."""

from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import schema
from custom_components.grokmon.gateway.catalog import CATALOG
from custom_components.grokmon.gateway.errors import Code, SchemaError
from custom_components.grokmon.gateway.models import Claims, Hello, Telemetry

from .wire import BOOT, NOW, brief

GRANTED = {"temp_c": False, "ph": False, "smoke": True}
EVERYTHING = {name: metric.is_boolean for name, metric in CATALOG.items()}
ENVELOPE = {"iss": "tent-1", "aud": "t", "iat": NOW, "exp": NOW, "nbf": NOW, "device_id": "tent-1"}


def telemetry(claims: Claims) -> str:
    """Read a telemetry body; return the code of the refusal, or `accepted`. Any other exception is a failure."""
    return refusal(lambda: schema.telemetry(claims, GRANTED))[0]


def refusal(read: Any) -> tuple[str, str]:
    """Return code and detail of a refusal, or `accepted`."""
    try:
        read()
    except SchemaError as error:
        return str(error.code), error.detail
    return "accepted", ""


# --- Telemetry


def test_smallest_reading() -> None:
    """Take one metric and nothing else."""
    assert schema.telemetry({"metrics": {"ph": 6.1}}, GRANTED) == Telemetry(metrics={"ph": 6.1}, ts=None, meta={})


def test_whole_reading() -> None:
    """Take everything that the protocol names."""
    claims = ENVELOPE | {
        "sid": "s" * 16,
        "seq": 1,
        "ts": 1763849999.5,
        "metrics": {"temp_c": 21, "ph": 6.1, "smoke": False},
        "meta": {"firmware": "v1.2.3", "où": "là"},
    }
    assert schema.telemetry(claims, GRANTED) == Telemetry(
        metrics={"temp_c": 21, "ph": 6.1, "smoke": False}, ts=1763849999.5, meta={"firmware": "v1.2.3", "où": "là"}
    )


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        ({}, "field_missing", "metrics"),
        ({"metrics": None}, "field_invalid", "metrics"),
        ({"metrics": []}, "field_invalid", "metrics"),
        ({"metrics": [["ph", 6]]}, "field_invalid", "metrics"),
        ({"metrics": "ph"}, "field_invalid", "metrics"),
        ({"metrics": 6.1}, "field_invalid", "metrics"),
        ({"metrics": {}}, "field_invalid", "metrics: 1 to 64"),
        ({"metrics": {f"m{number}": 1 for number in range(65)}}, "field_invalid", "metrics: 1 to 64"),
        ({"metrics": {"temperature": 1}}, "metric_unknown", "temperature"),
        ({"metrics": {"": 1}}, "metric_unknown", ""),
        ({"metrics": {"PH": 6.1}}, "metric_unknown", "PH"),
        ({"metrics": {"ph ": 6.1}}, "metric_unknown", "ph "),
        ({"metrics": {"ph": 6.1, "nope": 1}}, "metric_unknown", "nope"),
        ({"metrics": {"a\n\x1b[31mb": 1}}, "metric_unknown", r"a\n\x1b[31mb"),
        ({"metrics": {"\u0440h": 1}}, "metric_unknown", r"\u0440h"),
        ({"metrics": {"x" * 1000: 1}}, "metric_unknown", "x" * 64),
        ({"metrics": {"co2_ppm": 800}}, "metric_not_granted", "co2_ppm"),
        ({"metrics": {"leak": True}}, "metric_not_granted", "leak"),
        ({"metrics": {"ph": "6.1"}}, "metric_type", "ph"),
        ({"metrics": {"ph": True}}, "metric_type", "ph"),
        ({"metrics": {"ph": None}}, "metric_type", "ph"),
        ({"metrics": {"ph": [6.1]}}, "metric_type", "ph"),
        ({"metrics": {"ph": {"value": 6.1}}}, "metric_type", "ph"),
        ({"metrics": {"smoke": 1}}, "metric_type", "smoke"),
        ({"metrics": {"smoke": 0.0}}, "metric_type", "smoke"),
        ({"metrics": {"smoke": "true"}}, "metric_type", "smoke"),
        ({"metrics": {"smoke": None}}, "metric_type", "smoke"),
        ({"metrics": {"ph": 6.1}, "ts": None}, "field_invalid", "ts"),
        ({"metrics": {"ph": 6.1}, "ts": "now"}, "field_invalid", "ts"),
        ({"metrics": {"ph": 6.1}, "ts": True}, "field_invalid", "ts"),
        ({"metrics": {"ph": 6.1}, "ts": [NOW]}, "field_invalid", "ts"),
        ({"metrics": {"ph": 6.1}, "ts": -1}, "field_invalid", "ts"),
        ({"metrics": {"ph": 6.1}, "ts": -0.001}, "field_invalid", "ts"),
        ({"metrics": {"ph": 6.1}, "ts": 253402300800}, "field_invalid", "ts"),
        ({"metrics": {"ph": 6.1}, "ts": 2**53}, "field_invalid", "ts"),
        ({"metrics": {"ph": 6.1}, "meta": None}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": []}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": "v1"}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {str(number): "x" for number in range(17)}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": 1}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": None}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": {"b": "c"}}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": ""}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"": "a"}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": "x" * 65}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"x" * 65: "a"}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": "line\nfeed"}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": "\x1b[2J"}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": "\x7f"}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": "\u202egnp.exe"}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": "zero\u200bwidth"}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a": "\u2028"}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "meta": {"a\x00": "b"}}, "field_invalid", "meta"),
        ({"metrics": {"ph": 6.1}, "Metrics": {}}, "field_unknown", "Metrics"),
        ({"metrics": {"ph": 6.1}, "boot": BOOT}, "field_unknown", "boot"),
        ({"metrics": {"ph": 6.1}, "sub": "tent-1"}, "field_unknown", "sub"),
        ({"metrics": {"ph": 6.1}, "jti": "1"}, "field_unknown", "jti"),
        ({"metrics": {"ph": 6.1}, "actuators": {}}, "field_unknown", "actuators"),
        ({"metrics": {"ph": 6.1}, "z": 1, "b": 1, "a": 1}, "field_unknown", "a"),
        ({"metrics": {"ph": 6.1}, "x\r\nSet-Cookie: a": 1}, "field_unknown", r"x\r\nSet-Cookie: a"),
        ({"metrics": {"ph": 6.1}, "é" * 99: 1}, "field_unknown", r"\xe9" * 64),
    ],
    ids=brief,
)
def test_hostile_telemetry(body: Claims, code: str, detail: str) -> None:
    """Refuse with the code of the reason, naming the place in harmless letters."""
    assert refusal(lambda: schema.telemetry(body, GRANTED)) == (code, detail)


@pytest.mark.parametrize(
    "body",
    [
        {"metrics": {"ph": 6}},
        {"metrics": {"ph": -(2.0**53)}},
        {"metrics": {"ph": 6.1}, "ts": 0},
        {"metrics": {"ph": 6.1}, "ts": 12.5},
        {"metrics": {"ph": 6.1}, "ts": 253402300799},
        {"metrics": {"ph": 6.1}, "meta": {}},
        {"metrics": {"ph": 6.1}, "meta": {"x" * 64: "y" * 64}},
        {"metrics": {"ph": 6.1}, "meta": {str(number): "x" for number in range(16)}},
        {"metrics": {"ph": 6.1}, "meta": {"note": 'quotes " and \\ and {{ braces }}'}},
    ],
)
def test_edges_of_telemetry(body: Claims) -> None:
    """Take what lies on the edge of what is allowed."""
    assert telemetry(body) == "accepted"


def test_sixty_four_metrics() -> None:
    """Take as many metrics as the protocol allows."""
    metrics = {f"m{number}": 1.0 for number in range(64)}
    assert schema.telemetry({"metrics": metrics}, dict.fromkeys(metrics, False)).metrics == metrics


@pytest.mark.parametrize("name", CATALOG)
def test_every_metric_when_granted(name: str) -> None:
    """Take every metric with a value of its type, and none with a value of the other type."""
    right, wrong = (True, 1.0) if CATALOG[name].is_boolean else (1.0, True)
    assert schema.telemetry({"metrics": {name: right}}, EVERYTHING).metrics == {name: right}
    assert refusal(lambda: schema.telemetry({"metrics": {name: wrong}}, EVERYTHING)) == ("metric_type", name)
    assert refusal(lambda: schema.telemetry({"metrics": {name: right}}, {})) == ("metric_not_granted", name)


# --- Hello


def test_smallest_hello() -> None:
    """Take a boot value and nothing else."""
    assert schema.hello({"boot": BOOT}) == Hello(boot=BOOT)


def test_whole_hello() -> None:
    """Take everything that the protocol names; the capabilities are nothing that anybody goes by."""
    body = {"boot": BOOT, "firmware": "v1.2.3", "model": "ESP32-S3", "capabilities": ["temp_c", "something else"]}
    assert schema.hello(ENVELOPE | body) == Hello(boot=BOOT, firmware="v1.2.3", model="ESP32-S3")


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        ({}, "field_missing", "boot"),
        ({"boot": None}, "field_invalid", "boot"),
        ({"boot": 1}, "field_invalid", "boot"),
        ({"boot": [BOOT]}, "field_invalid", "boot"),
        ({"boot": ""}, "field_invalid", "boot"),
        ({"boot": BOOT[1:]}, "field_invalid", "boot"),
        ({"boot": BOOT + "A"}, "field_invalid", "boot"),
        ({"boot": BOOT + "=="}, "field_invalid", "boot"),
        ({"boot": "A" * 20 + "=="}, "field_invalid", "boot"),
        ({"boot": "A" * 21 + "B"}, "field_invalid", "boot"),
        ({"boot": "A" * 21 + "\n"}, "field_invalid", "boot"),
        ({"boot": "\x1b" + "A" * 21}, "field_invalid", "boot"),
        ({"boot": "+" + "A" * 21}, "field_invalid", "boot"),
        ({"boot": "/" + "A" * 21}, "field_invalid", "boot"),
        ({"boot": " " * 22}, "field_invalid", "boot"),
        ({"boot": "é" * 22}, "field_invalid", "boot"),
        ({"boot": "\uff11" * 22}, "field_invalid", "boot"),
        ({"boot": BOOT, "sid": "s" * 16}, "field_unknown", "sid"),
        ({"boot": BOOT, "seq": 1}, "field_unknown", "seq"),
        ({"boot": BOOT, "metrics": {"ph": 6.1}}, "field_unknown", "metrics"),
        ({"boot": BOOT, "hello": True}, "field_unknown", "hello"),
        ({"boot": BOOT, "firmware": None}, "field_invalid", "firmware"),
        ({"boot": BOOT, "firmware": ""}, "field_invalid", "firmware"),
        ({"boot": BOOT, "firmware": 1.2}, "field_invalid", "firmware"),
        ({"boot": BOOT, "firmware": "v" * 65}, "field_invalid", "firmware"),
        ({"boot": BOOT, "firmware": "v1\n"}, "field_invalid", "firmware"),
        ({"boot": BOOT, "model": False}, "field_invalid", "model"),
        ({"boot": BOOT, "model": ["ESP32"]}, "field_invalid", "model"),
        ({"boot": BOOT, "capabilities": None}, "field_invalid", "capabilities"),
        ({"boot": BOOT, "capabilities": "temp_c"}, "field_invalid", "capabilities"),
        ({"boot": BOOT, "capabilities": {"temp_c": 1}}, "field_invalid", "capabilities"),
        ({"boot": BOOT, "capabilities": [1]}, "field_invalid", "capabilities"),
        ({"boot": BOOT, "capabilities": [[]]}, "field_invalid", "capabilities"),
        ({"boot": BOOT, "capabilities": ["a", ""]}, "field_invalid", "capabilities"),
        ({"boot": BOOT, "capabilities": ["x" * 65]}, "field_invalid", "capabilities"),
        ({"boot": BOOT, "capabilities": ["a"] * 65}, "field_invalid", "capabilities"),
    ],
    ids=brief,
)
def test_hostile_hello(body: Claims, code: str, detail: str) -> None:
    """Refuse with the code of the reason, naming the place."""
    assert refusal(lambda: schema.hello(body)) == (code, detail)


@pytest.mark.parametrize(
    "body",
    [
        {"boot": "A" * 21 + last, "firmware": "v" * 64, "model": "m", "capabilities": capabilities}
        for last, capabilities in [("A", []), ("Q", ["a"] * 64), ("g", ["x" * 64]), ("w", ["température"])]
    ]
    + [{"boot": "-_09azAZ-_09azAZ-_09aA"}],
)
def test_edges_of_hello(body: Claims) -> None:
    """Take what lies on the edge of what is allowed."""
    assert refusal(lambda: schema.hello(body)) == ("accepted", "")


# --- Anything


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
METRICS = st.dictionaries(st.sampled_from([*CATALOG, "x"]), JSON, max_size=4)
META = st.dictionaries(st.text(max_size=6), st.text(max_size=6) | JSON, max_size=3)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "metrics": METRICS | JSON,
        "ts": st.just(NOW) | JSON,
        "meta": META | JSON,
        "boot": st.just(BOOT) | st.text(min_size=22, max_size=22) | JSON,
        "firmware": JSON,
        "model": JSON,
        "capabilities": st.lists(st.text(max_size=6), max_size=3) | JSON,
        "sid": JSON,
    },
)
ANYTHING = BODIES | st.dictionaries(st.text(max_size=10), JSON, max_size=4)


@given(ANYTHING)
def test_any_telemetry(claims: Claims) -> None:
    """Raise nothing but SchemaError, and return nothing but what was granted, typed and bounded."""
    code, detail = refusal(lambda: schema.telemetry(claims, EVERYTHING))
    assert code in {value.value for value in Code}.union({"accepted"})
    assert detail.isascii()
    assert detail.isprintable()
    if code == "accepted":
        body = schema.telemetry(claims, EVERYTHING)
        assert {name: type(value) is bool for name, value in body.metrics.items()}.items() <= EVERYTHING.items()
        assert {type(value) for value in body.metrics.values()} <= {int, float, bool}
        assert all(text.isprintable() for pair in body.meta.items() for text in pair)


@given(ANYTHING)
def test_any_hello(claims: Claims) -> None:
    """Raise nothing but SchemaError, and return nothing but printable text."""
    code, detail = refusal(lambda: schema.hello(claims))
    assert code in {value.value for value in Code}.union({"accepted"})
    assert detail.isascii()
    assert detail.isprintable()
    if code == "accepted":
        hello = schema.hello(claims)
        assert all(text.isprintable() for text in [hello.boot, hello.firmware or "", hello.model or ""])
