"""Photometric distortion of camera images in training (v2 specification, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

# Ranges of the released configurations
BRIGHTNESS = 32.0  # largest shift of values in 0..255
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE_DEG = 18.0  # largest shift
STRIP_PIXELS = 1 << 15  # processed at once, 400 kB as floats


@dataclass(frozen=True, kw_only=True)
class PhotometricDistortion:
    """Colour distortion of one image; the defaults change nothing.

    Order: brightness; contrast if ``contrast_first``; saturation and hue; contrast otherwise;
    permutation of the channels. The distortion acts on each pixel independently, so it commutes
    with cropping and mirroring, but not with resizing.
    """

    brightness: float = 0.0  # added to values in 0..255
    contrast: float = 1.0  # factor
    contrast_first: bool = True  # before saturation and hue, else after
    saturation: float = 1.0  # factor
    hue_deg: float = 0.0  # added
    channels: tuple[int, int, int] = (0, 1, 2)  # source channel of each output channel

    def apply(
        self,
        image: NDArray[np.uint8],  # (H, W, 3) RGB
        *,
        official_parity: bool = False,
    ) -> NDArray[np.uint8]:  # (H, W, 3)
        """Return a distorted copy of the image.

        Values are clipped to 0..255 before saturation and hue (which are undefined outside) and at
        the end, and then rounded. With ``official_parity`` they are neither clipped nor rounded:
        as in the released code, they wrap around modulo 256 and fractions are cut off.

        Raises:
            ValueError: the image is not uint8 with three channels.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"image must be uint8 RGB of shape (H, W, 3); got {image.dtype} {image.shape}"
            )
        if image.size == 0:
            return image.copy()
        image = np.ascontiguousarray(image)
        if official_parity:
            return self._apply_as_released(image)
        if self.saturation == 1 and self.hue_deg == 0:
            values = self._brightness_table() * np.float32(self._contrast_after)
            table = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
            distorted = cast(NDArray[np.uint8], cv2.LUT(image, table))
        else:
            distorted = self._distort_in_strips(image)
        if self.channels == (0, 1, 2):
            return distorted
        reordered = np.empty_like(distorted)
        pairs = [index for pair in zip(self.channels, range(3), strict=True) for index in pair]
        cv2.mixChannels([distorted], [reordered], pairs)
        return reordered

    @property
    def _contrast_after(self) -> float:
        return 1.0 if self.contrast_first else self.contrast

    def _brightness_table(self) -> NDArray[np.float32]:  # (256,)
        """Return each value after brightness, and after contrast if that comes first."""
        values = np.arange(256, dtype=np.float32) + np.float32(self.brightness)
        if self.contrast_first:
            values *= np.float32(self.contrast)
        return np.clip(values, 0, 255)

    def _distort_in_strips(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Apply all steps but the permutation, in strips that fit into the processor's cache."""
        table = self._brightness_table()
        result = np.empty_like(image)
        rows = max(1, STRIP_PIXELS // image.shape[1])
        for first in range(0, len(image), rows):
            pixels = cast(NDArray[np.float32], cv2.LUT(image[first : first + rows], table))
            strip = self._change_saturation_and_hue(pixels)
            np.maximum(strip, 0, out=strip)
            scaled = cv2.convertScaleAbs(strip, alpha=self._contrast_after)  # rounds, up to 255
            result[first : first + rows] = scaled
        return result

    def _change_saturation_and_hue(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Change saturation and hue, and overwrite the pixels; H is in degrees, S in 0..1."""
        hsv = cast(NDArray[np.float32], cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV, dst=pixels))
        hsv[..., 1] *= np.float32(self.saturation)
        hue = hsv[..., 0]
        hue += np.float32(self.hue_deg)
        # OpenCV converts a hue outside 0..360 degrees to a wrong colour.
        if self.hue_deg > 0:
            hue -= np.float32(360) * (hue > 360)
        else:
            hue += np.float32(360) * (hue < 0)
        return cast(NDArray[np.float32], cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv))

    def _apply_as_released(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Apply all steps without clipping: values wrap modulo 256, on every machine."""
        pixels = image.astype(np.float32) + np.float32(self.brightness)
        if self.contrast_first:
            pixels *= np.float32(self.contrast)
        pixels = self._change_saturation_and_hue(pixels) * np.float32(self._contrast_after)
        return pixels[..., list(self.channels)].astype(np.int32).astype(np.uint8)


def draw_photometric(rng: np.random.Generator) -> PhotometricDistortion:
    """Draw the distortion of one image: each step with probability 1/2, uniform in its range.

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
