"""Pictures in a row, as a GIF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from bevstack.files import write_atomically
from bevstack.render.canvas import Image
from bevstack.render.colors import BACKGROUND, CLASS_COLORS, MUTED, PANEL, RULE, WHITE

# Kept as they are; the other colours are chosen among those of the pictures.
_KEPT_COLORS = (*CLASS_COLORS.values(), WHITE, BACKGROUND, PANEL, RULE, MUTED)
_MAX_COLORS = 255  # and one for what does not change from picture to picture
_SAMPLED_PICTURES = 6  # the palette is chosen on so many of them


def write_animation(
    path: Path | str,
    pictures: Sequence[Image],  # (H, W, 3) RGB each, of one size
    *,
    seconds_each: float,
) -> Path:
    """Writes a GIF that is shown again and again; makes its folder where needed.

    All pictures share one palette of 255 colours, so that what stands still does not flicker. A
    picture that equals the one before is no frame of its own: that one is shown for longer. The
    same pixels give the same bytes.

    Raises:
        ValueError: no picture, pictures of several sizes, a name that does not end with .gif, or
            a time that is not 0.02 s or more.
        OSError: the folder cannot be made or written, or the disk is full; names the path.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"animation must end with .gif; got {path.name}")
    sizes = {picture.shape for picture in pictures}
    if len(sizes) != 1:
        raise ValueError(f"pictures must be one or more of one size; got sizes {sorted(sizes)}")
    if seconds_each < 0.02:
        raise ValueError(f"seconds_each must be at least 0.02, GIF's least; got {seconds_each}")
    palette = _shared_palette(pictures)
    frames = [
        pillow.fromarray(picture).quantize(palette=palette, dither=pillow.Dither.NONE)
        for picture in pictures
    ]
    content = io.BytesIO()
    frames[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=round(100 * seconds_each) * 10,
        loop=0,
        optimize=False,
    )
    write_atomically(path, content.getvalue())
    return path


def _shared_palette(pictures: Sequence[Image]) -> pillow.Image:
    """An image that holds the palette: the drawing's own colours, then the pictures' commonest."""
    chosen = np.linspace(0, len(pictures) - 1, min(_SAMPLED_PICTURES, len(pictures)))
    mosaic = np.concatenate([pictures[round(index)][::2, ::2] for index in chosen])
    count = _MAX_COLORS - len(_KEPT_COLORS)
    quantized = pillow.fromarray(mosaic).quantize(count, method=pillow.Quantize.MEDIANCUT)
    found: NDArray[np.uint8] = np.array(quantized.getpalette()[: 3 * count], np.uint8)
    colors = np.concatenate((np.array(_KEPT_COLORS, np.uint8).ravel(), found))
    holder = pillow.new("P", (1, 1))
    holder.putpalette(colors.tobytes())
    return holder
