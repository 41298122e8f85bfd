"""Set-up of the gateway's tests: they run without Home Assistant, so they do not pay for its event loop."""

from hypothesis import HealthCheck, settings
import pytest

# A shared machine has slow moments; what is slow is seen in the total, not in one example.
settings.register_profile("gateway", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")

# The plugin for Home Assistant's tests gives every test an event loop and looks for what it left behind: 6 ms each.
# A fixture of the same name takes its place. Nothing here has a loop, timers, sockets or a `hass`.


@pytest.fixture(autouse=True)
def verify_cleanup() -> None:
    """Replace the search for lingering tasks, timers and threads."""


@pytest.fixture(autouse=True)
def reset_globals() -> None:
    """Replace the reset of Home Assistant's globals."""


@pytest.fixture(autouse=True)
def configure_event_loop() -> None:
    """Replace the configuration of an event loop."""


@pytest.fixture(autouse=True)
def enable_event_loop_debug() -> None:
    """Replace the debug mode of an event loop."""


@pytest.fixture(autouse=True)
def skip_stop_scripts() -> None:
    """Replace the patch of Home Assistant's scripts."""


@pytest.fixture(autouse=True)
def fail_on_log_exception() -> None:
    """Replace the patch of Home Assistant's logging."""
