"""Server and inputs of the tests with faults, made once a process."""

import os
import shutil
import sys

import pytest

from tests.faults.verbs import Workplace

NEEDS_COMPILER = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(os.environ.get("CC", "cc")) is None,
    reason="the injector needs Linux and a C compiler",
)


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """Return the workplace; its server ends with the tests."""
    workplace = Workplace(tmp_path_factory.mktemp("faults"))
    yield workplace
    workplace.server.close()
