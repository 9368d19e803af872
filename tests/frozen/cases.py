"""All frozen cases, by name."""

from __future__ import annotations

from pathlib import Path

from tests.frozen import data_cases, detector_cases, module_cases, operator_cases

CASES = {
    **operator_cases.CASES,
    **module_cases.CASES,
    **detector_cases.CASES,
    **data_cases.CASES,
}
FILE = Path(__file__).with_name("cases.safetensors")
MAX_BYTES = 300_000
