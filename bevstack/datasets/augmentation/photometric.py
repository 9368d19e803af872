"""Photometric distortion of camera images in training (v2 specification, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BRIGHTNESS = 32.0  # largest shift, of 0..255. Released configurations, as all below
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE_DEG = 18.0  # largest shift
STRIP_PIXELS = 1 << 15  # 400 kB as floats


@dataclass(frozen=True, kw_only=True)
class PhotometricDistortion:
    """What is done to the colours of one image; the defaults do nothing.

    Brightness, then contrast where it comes first, then saturation and hue, then contrast where it
    comes last, then the channels in another order. It acts on pixels one by one, so cropping or
    mirroring before or after are the same; resizing is not.
    """

    brightness: float = 0.0  # added, of 0..255
    contrast: float = 1.0  # factor
    contrast_first: bool = True  # before saturation and hue, else after
    saturation: float = 1.0  # factor
    hue_deg: float = 0.0  # added
    channels: tuple[int, int, int] = (0, 1, 2)  # which channel each one becomes

    def apply(
        self,
        image: NDArray[np.uint8],  # (H, W, 3) RGB
        *,
        official_parity: bool = False,
    ) -> NDArray[np.uint8]:  # (H, W, 3)
        """The distorted image; the given one is not changed.

        Values are kept within 0..255, before saturation and hue (which have no meaning outside)
        and at the end, and rounded. With ``official_parity`` they are neither: as in the released
        code what is too bright begins again at black, what is too dark at white, and fractions
        are cut off.

        Raises:
            ValueError: not a uint8 image of three channels.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"image must be uint8 RGB of shape (H, W, 3); got {image.dtype} {image.shape}"
            )
        if image.size == 0:
            return image.copy()
        image = np.ascontiguousarray(image)
        if official_parity:
            return self._as_released(image)
        if self.saturation == 1 and self.hue_deg == 0:
            values = self._before_colours() * np.float32(self._contrast_after)
            coloured = cv2.LUT(image, np.rint(np.clip(values, 0, 255)).astype(np.uint8))
        else:
            coloured = self._recoloured(image)
        if self.channels == (0, 1, 2):
            return coloured
        reordered = np.empty_like(coloured)
        pairs = [place for pair in zip(self.channels, range(3), strict=True) for place in pair]
        cv2.mixChannels([coloured], [reordered], pairs)
        return reordered

    @property
    def _contrast_after(self) -> float:
        return 1.0 if self.contrast_first else self.contrast

    def _before_colours(self) -> NDArray[np.float32]:  # (256,)
        """What brightness, and contrast where it comes first, make of each value."""
        values = np.arange(256, dtype=np.float32) + np.float32(self.brightness)
        if self.contrast_first:
            values *= np.float32(self.contrast)
        return np.clip(values, 0, 255)

    def _recoloured(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """All but the order of channels, in strips that stay in the processor's cache."""
        before = self._before_colours()
        result = np.empty_like(image)
        rows = max(1, STRIP_PIXELS // image.shape[1])
        for first in range(0, len(image), rows):
            strip = self._turn(cv2.LUT(image[first : first + rows], before))
            np.maximum(strip, 0, out=strip)
            scaled = cv2.convertScaleAbs(strip, alpha=self._contrast_after)  # rounds, up to 255
            result[first : first + rows] = scaled
        return result

    def _turn(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Saturation and hue: H in degrees, S in 0..1, V as the pixels, which are overwritten."""
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV, dst=pixels)
        hsv[..., 1] *= np.float32(self.saturation)
        hue = hsv[..., 0]
        hue += np.float32(self.hue_deg)
        # OpenCV takes a hue beyond the circle for another colour.
        if self.hue_deg > 0:
            hue -= np.float32(360) * (hue > 360)
        else:
            hue += np.float32(360) * (hue < 0)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv)

    def _as_released(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Without a limit anywhere: modulo 256, on every machine."""
        pixels = image.astype(np.float32) + np.float32(self.brightness)
        if self.contrast_first:
            pixels *= np.float32(self.contrast)
        pixels = self._turn(pixels) * np.float32(self._contrast_after)
        return pixels[..., list(self.channels)].astype(np.int32).astype(np.uint8)


def draw_photometric(rng: np.random.Generator) -> PhotometricDistortion:
    """One image's distortion: each part with probability 1/2, uniform within its range.

    Every parameter is drawn, used or not: each image takes the same number of draws from ``rng``.
    """
    used = rng.uniform(size=5) < 0.5  # brightness, contrast, saturation, hue, channels
    contrast_first = bool(rng.uniform() < 0.5)
    brightness, hue_deg = rng.uniform(-BRIGHTNESS, BRIGHTNESS), rng.uniform(-HUE_DEG, HUE_DEG)
    contrast, saturation = rng.uniform(*CONTRAST), rng.uniform(*SATURATION)
    first, second, third = (int(channel) for channel in rng.permutation(3))
    return PhotometricDistortion(
        brightness=float(brightness) if used[0] else 0.0,
        contrast=float(contrast) if used[1] else 1.0,
        contrast_first=contrast_first,
        saturation=float(saturation) if used[2] else 1.0,
        hue_deg=float(hue_deg) if used[3] else 0.0,
        channels=(first, second, third) if used[4] else (0, 1, 2),
    )
