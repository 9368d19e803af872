"""No mutated file ends in a traceback, a hang or a memory bomb, and none of a wrong kind is taken.

The usual tests read a few inputs a reader; ``make test-all`` reads 10,000 a reader. A fault names
its seed: ``run_reader(reader, folder, (seed,))`` repeats it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS
from tests.fuzz.run import run_reader
from tests.fuzz.seeds import SEEDS

FEW = 16
MANY = 10_000


def test_every_reader_has_a_name_of_its_own() -> None:
    names = [reader.name for reader in READERS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_few_mutated_files_are_read_or_refused(reader: Reader, tmp_path: Path) -> None:
    outcome = run_reader(reader, tmp_path, (*range(FEW), *SEEDS.get(reader.name, ())))
    assert not outcome.faults, outcome.describe()


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_many_mutated_files_are_read_or_refused(reader: Reader, tmp_path: Path) -> None:
    outcome = run_reader(reader, tmp_path, range(FEW, MANY + MANY // 10))
    assert not outcome.faults, outcome.describe()
    counted = sum(outcome.counts.values()) - outcome.counts["parser"]
    assert counted >= MANY, outcome.describe()
    # Mutations that are never taken, or never refused, would test little.
    assert min(outcome.counts["refused"], outcome.counts["accepted"]) > MANY / 50, (
        outcome.describe()
    )
