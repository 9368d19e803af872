"""Published InternImage classifiers as ours."""

from __future__ import annotations

from bevstack.config.internimage import classification_config
from bevstack.interop.internimage_names import RENAMES
from bevstack.interop.public_weights import Rename, convert_weights
from bevstack.interop.published_files import PublishedFile
from bevstack.models.classification.internimage_heads import InternImageClassifier
from bevstack.models.skeleton import skeleton

_HEAD = "head.weight"  # (K, C) of the last linear map, in every released classifier


def classifier_from_public(file: PublishedFile, name: str) -> InternImageClassifier:
    """Return a published classifier; its number of classes is that of the file.

    Args:
        file: released classification weights.
        name: the size, such as "internimage_t".

    Raises:
        ValueError: the file holds no such classifier, or ``name`` is unknown.
    """
    config = classification_config(name)
    head = file.tensors.get(_HEAD)
    if head is None or head.dim() != 2:
        raise ValueError(
            f"{file.name} must hold a classifier, with a tensor {_HEAD} of two axes; got none: "
            "detectors are exported without --classifier"
        )
    with skeleton():
        expected = InternImageClassifier(config, head.shape[0]).state_dict()
    rows = [Rename(published, ours) for published, ours in RENAMES]
    state, _ = convert_weights(file.tensors, expected, rows)
    model = InternImageClassifier(config, head.shape[0])
    model.load_state_dict(state)
    return model.eval()
