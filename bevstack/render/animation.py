"""Writing of a sequence of pictures as an animation: GIF or WebP."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from bevstack.files import write_atomically
from bevstack.render.canvas import Image
from bevstack.render.colors import (
    BACKGROUND,
    CLASS_COLORS,
    LANE,
    MUTED,
    PANEL,
    ROAD,
    RULE,
    SHADOW,
    TRAIL,
    WHITE,
)

# The palette always holds these colours; the remaining ones come from the pictures.
_GROUND_COLORS = (BACKGROUND, PANEL, RULE, ROAD, LANE, SHADOW, TRAIL)
_KEPT_COLORS = (*CLASS_COLORS.values(), WHITE, MUTED, *_GROUND_COLORS)
_MAX_COLORS = 255  # a GIF has 256; one marks the pixels that equal the previous picture's
_SAMPLED_PICTURES = 6  # the palette is computed from at most this number of pictures
_WEBP_QUALITY = 78  # of 100: thin lines and small text stay sharp
_SUFFIXES = (".gif", ".webp")


def write_animation(
    path: Path | str,
    pictures: Sequence[Image],  # (H, W, 3) RGB each, of one size
    *,
    seconds_each: float,
) -> Path:
    """Write a GIF or WebP that repeats without end; make its folder if it is missing.

    A WebP has all colours and is smaller; every current browser shows it. A GIF is shown by older
    programs too: all pictures share one palette of 255 colours, so that static parts do not
    flicker, and a picture that equals the previous one adds no frame, but is shown for longer. The
    same pixels give the same bytes.

    Raises:
        ValueError: There is no picture, the pictures differ in size, the name ends with neither
            .gif nor .webp, or ``seconds_each`` is below 0.02 s.
        OSError: The folder cannot be made or written, or the disk is full; names the path.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(
            f"the animation's name must end with {' or '.join(_SUFFIXES)}; got {path.name}"
        )
    sizes = {picture.shape for picture in pictures}
    if len(sizes) != 1:
        raise ValueError(f"pictures must be one or more of one size; got sizes {sorted(sizes)}")
    if seconds_each < 0.02:
        raise ValueError(
            f"seconds_each must be at least 0.02, the shortest time of a frame; got {seconds_each}"
        )
    milliseconds = round(100 * seconds_each) * 10
    encode = _encode_gif if path.suffix.lower() == ".gif" else _encode_webp
    write_atomically(path, encode(pictures, milliseconds))
    return path


def _encode_gif(pictures: Sequence[Image], milliseconds: int) -> bytes:
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
        duration=milliseconds,
        loop=0,
        optimize=False,
    )
    return content.getvalue()


def _encode_webp(pictures: Sequence[Image], milliseconds: int) -> bytes:
    frames = [pillow.fromarray(picture) for picture in pictures]
    content = io.BytesIO()
    frames[0].save(
        content,
        format="WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds,
        loop=0,
        quality=_WEBP_QUALITY,
        method=4,
    )
    return content.getvalue()


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
