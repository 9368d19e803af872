from __future__ import annotations

import subprocess
import sys

from bevstack.config import Config
from bevstack.tables.names import CATEGORY_TO_CLASS, DETECTION_RANGE_M
from bevstack.vocabulary import DETECTION_CLASSES


def test_the_classes_equal_the_default_classes_of_the_configuration() -> None:
    assert Config(name="any").class_names == DETECTION_CLASSES
    assert set(DETECTION_RANGE_M) == set(CATEGORY_TO_CLASS.values()) == set(DETECTION_CLASSES)


def test_reading_and_scoring_tables_does_not_import_torch() -> None:
    program = "import sys, bevstack.evaluation.scoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
