"""Writing of a sequence of pictures as an animated GIF."""

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

# The palette always holds these colours; the remaining ones come from the pictures.
_KEPT_COLORS = (*CLASS_COLORS.values(), WHITE, BACKGROUND, PANEL, RULE, MUTED)
_MAX_COLORS = 255  # a GIF has 256; one marks the pixels that equal the previous picture's
_SAMPLED_PICTURES = 6  # the palette is computed from at most this number of pictures


def write_animation(
    path: Path | str,
    pictures: Sequence[Image],  # (H, W, 3) RGB each, of one size
    *,
    seconds_each: float,
) -> Path:
    """Write a GIF that repeats without end; make its folder if it is missing.

    All pictures share one palette of 255 colours, so that static parts do not flicker. A picture
    that equals the previous one adds no frame: the previous frame is shown for longer. The same
    pixels give the same bytes.

    Raises:
        ValueError: There is no picture, the pictures differ in size, the name does not end with
            .gif, or ``seconds_each`` is below 0.02 s.
        OSError: The folder cannot be made or written, or the disk is full; names the path.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"the animation's name must end with .gif; got {path.name}")
    sizes = {picture.shape for picture in pictures}
    if len(sizes) != 1:
        raise ValueError(f"pictures must be one or more of one size; got sizes {sorted(sizes)}")
    if seconds_each < 0.02:
        raise ValueError(
            f"seconds_each must be at least 0.02, the shortest time of a GIF; got {seconds_each}"
        )
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
    """Return a 1 x 1 image that carries the palette.

    The palette holds the drawing's own colours, then the most frequent colours of the pictures.
    """
    indices = np.linspace(0, len(pictures) - 1, min(_SAMPLED_PICTURES, len(pictures)))
    mosaic = np.concatenate([pictures[round(index)][::2, ::2] for index in indices])
    count = _MAX_COLORS - len(_KEPT_COLORS)
    quantized = pillow.fromarray(mosaic).quantize(count, method=pillow.Quantize.MEDIANCUT)
    palette = quantized.getpalette()
    assert palette is not None  # every quantised image has one
    frequent_colors: NDArray[np.uint8] = np.array(palette[: 3 * count], np.uint8)
    colors = np.concatenate((np.array(_KEPT_COLORS, np.uint8).ravel(), frequent_colors))
    palette_image = pillow.new("P", (1, 1))
    palette_image.putpalette(colors.tobytes())
    return palette_image
