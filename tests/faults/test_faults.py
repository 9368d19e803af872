"""Every file call of the verbs fails once: with EIO, or with ENOSPC from there on.

After each fault, the exit code is 2 with one sentence that names file and cause, or 0 with the
right results; every file under a final name is whole; and the same command without a fault gives
the results of an undisturbed one.
"""

import pytest

from tests.faults.checks import EIO, ENOSPC, find_faults, kill_chain
from tests.faults.conftest import NEEDS_COMPILER
from tests.faults.verbs import FIRST, VERBS, installed

pytestmark = NEEDS_COMPILER
FEW = 2  # faults of a kind and verb in the fast test
KILLS = {"make-world": 2, "predict": 1, "evaluate": 1}  # training: tests/training/test_killed.py


def test_a_few_faults_and_kills_of_the_first_verbs_do_no_damage(work):
    """Try all in one test, as each process of the tests would start a server of its own."""
    pairs = [(name, fault) for name in FIRST for fault in (EIO, ENOSPC)]
    assert [wrong for pair in pairs for wrong in find_faults(work, *pair, FEW)] == []
    assert [wrong for name in KILLS for wrong in kill_chain(work, name, 0, KILLS[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", [EIO, ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("name", VERBS)
def test_every_failing_call_ends_in_one_sentence_and_does_no_damage(work, name, fault):
    if not installed(name):
        pytest.skip(f"needs {VERBS[name].needs}")
    assert find_faults(work, name, fault) == []
