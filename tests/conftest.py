"""Fixtures and hooks for all tests: devices, one thread, and a check that every oracle case runs.

An oracle test has the mark ``@pytest.mark.oracle("<case>")`` and reads its reference numbers below
``shared_dir()``. If that folder does not exist, the test is skipped with a reason. If it exists and
the whole suite runs, the session fails unless every case of ``oracle_cases.txt`` ran.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

_TESTS = Path(__file__).resolve().parent


def shared_dir() -> Path | None:
    """Return the folder of stored reference numbers: $BEVSTACK_SHARED, or beside the checkout."""
    folder = Path(os.environ.get("BEVSTACK_SHARED", _TESTS.parent.parent / "shared"))
    return folder if (folder / "oracle").is_dir() else None


@pytest.fixture(params=["cpu"] + ["cuda"] * torch.cuda.is_available())
def device(request: pytest.FixtureRequest) -> torch.device:
    """Run the test on each device of this machine."""
    return torch.device(request.param)


@pytest.fixture
def oracle_dir() -> Path:
    """Return the folder ``oracle/`` of the stored reference numbers."""
    shared = shared_dir()
    if shared is None:
        pytest.skip("no stored reference numbers: neither ../shared nor $BEVSTACK_SHARED")
    return shared / "oracle"


class _OracleCases:
    """A plugin that collects the oracle cases that ran, in this process or in its workers."""

    def __init__(self) -> None:
        self.ran: set[str] = set()
        self.missing: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.skipped:
            self.ran.update(case for key, case in report.user_properties if key == "oracle")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        stopped = session.shouldstop or session.shouldfail
        if stopped or shared_dir() is None or not _whole_suite(session.config):
            return
        required = (_TESTS / "oracle_cases.txt").read_text(encoding="utf-8").split()
        self.missing = sorted(set(required) - self.ran)
        if self.missing and exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.missing:
            terminalreporter.write_sep("=", "oracle cases that did not run", red=True)
            terminalreporter.write_line(", ".join(self.missing))


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    if not hasattr(config, "workerinput"):  # a worker's reports arrive in the main process
        config.pluginmanager.register(_OracleCases(), "oracle-cases")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("oracle"):
        if shared_dir() is None:
            pytest.skip("no stored reference numbers: neither ../shared nor $BEVSTACK_SHARED")
        item.user_properties.extend(("oracle", case) for case in marker.args)


def _whole_suite(config: pytest.Config) -> bool:
    option = config.option
    if option.keyword or option.collectonly or option.markexpr not in ("", "not slow"):
        return False
    if getattr(option, "lf", False) or option.deselect or option.ignore:
        return False
    return any(Path(a).resolve() in (_TESTS, _TESTS.parent) for a in config.args)
