"""Seeds of inputs that once failed, by reader; the usual tests read them again."""

from __future__ import annotations

SEEDS: dict[str, tuple[int, ...]] = {
    "column_file": (63, 519, 4410),  # shapes and metadata of another kind
    "results": (5200,),  # a message of 10,000 characters
    "results_columns": (72, 5836),  # no metadata, a long message
    "splits": (108, 1059, 1428),  # a message of 10,000 characters
    "weights": (1089,),  # a long message
    "traffic_elements": (17, 56),  # uneven lists, a missing field
    "finished_figures": (43, 1369, 2282, 7099),  # a specification of another kind, long messages
    "tables": (137, 5046, 6967, 7107),  # long messages, half of a surrogate pair
}
