"""The count of inputs stands at the end of the tests' report."""

import fuzz_driver
import pytest


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Tiny networks gain nothing from more."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if fuzz_driver.TRIED:
        terminalreporter.write_line(fuzz_driver.summary())
