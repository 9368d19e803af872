from __future__ import annotations

import pytest
import torch

from bevstack.models.layers.positional_encoding import LearnedPositionalEncoding
from tests.models.bevformer_oracle import assert_close, load_published, read_case


@pytest.mark.oracle("learned_positional_encoding")
def test_encoding_matches_the_published_code() -> None:
    case = read_case("learned_positional_encoding")
    encoding = LearnedPositionalEncoding(64, (20, 20))
    load_published(
        encoding,
        case.weights,
        published="pts_bbox_head.positional_encoding.",
        ours="encoder.positional_encoding.",
    )
    assert_close(encoding().T.view(1, 64, 20, 20), case.outputs["output"], case.tolerance)


def test_each_cell_holds_its_column_then_its_row() -> None:
    encoding = LearnedPositionalEncoding(6, (3, 5))
    tokens = encoding()
    for row in range(3):
        for column in range(5):
            wanted = torch.cat((encoding.col_embed[column], encoding.row_embed[row]))
            assert torch.equal(tokens[row * 5 + column], wanted)


def test_odd_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="channels must be even"):
        LearnedPositionalEncoding(7, (3, 5))
