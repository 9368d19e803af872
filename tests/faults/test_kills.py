"""Verbs killed with SIGKILL at any file call or moment, again and again, give the same results.

A chain is a few kills of one command, followed by a run to its end. Half of the kills come at a
file call drawn from all of them (a write leaves its first half), half after a time. After each
kill, every file under a final name is whole. After the last run, the results equal those of an
undisturbed run, and no temporary file is left.
"""

import pytest

from tests.faults.checks import kill_chain
from tests.faults.conftest import NEEDS_COMPILER

pytestmark = [NEEDS_COMPILER, pytest.mark.slow]


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        *(("train", seed) for seed in range(1, 5)),
        *(("predict", seed) for seed in range(1, 4)),
        *(("make-world", seed) for seed in range(1, 4)),
    ],
)
def test_a_hundred_kills_leave_no_trace(work, name, seed):
    """Run 20 chains of five kills; the ten cases are 1,000 kills in all.

    With their resumed and final runs, 70 kills took 99 s on a busy machine of two cores (train
    2.2 s a kill, predict 0.8 s, make-world 0.9 s) and 35 s of CPU, with the start. At that rate,
    1,000 kills take 23 minutes there.
    """
    wrong = [kill_chain(work, name, 1000 * seed + number) for number in range(20)]
    assert [text for chain in wrong for text in chain] == []
