"""Seeds of inputs that once failed, by reader; the usual tests read them again."""

from __future__ import annotations

SEEDS: dict[str, tuple[int, ...]] = {
    "column_file": (63, 519),  # shapes and metadata of another kind
    "results": (5200,),  # a message of 10,000 characters
    "results_columns": (72,),  # no metadata
    "splits": (108,),  # a message of 10,000 characters
    "traffic_elements": (17, 56),  # uneven lists, a missing field
    "finished_figures": (43,),  # a specification of another kind
    "tables": (105, 137, 280),  # messages of up to 800,000 characters
}
