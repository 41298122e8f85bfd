"""Count a skipped test as a failure where GROKMON_NO_SKIP is set, as in CI: there nothing may be missing."""

import os

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session for what it skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("GROKMON_NO_SKIP") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("ERROR: tests were skipped, and GROKMON_NO_SKIP is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
