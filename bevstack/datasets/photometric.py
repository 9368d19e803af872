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
        pixels = image.astype(np.float32) + np.float32(self.brightness)
        if self.contrast_first:
            pixels *= np.float32(self.contrast)
        if not official_parity:
            np.clip(pixels, 0, 255, out=pixels)
        # The way to HSV and back changes nothing within 0..255, but negative values.
        if official_parity or self.saturation != 1 or self.hue_deg != 0:
            pixels = self._recolour(pixels)
        if not self.contrast_first:
            pixels *= np.float32(self.contrast)
        pixels = pixels[..., list(self.channels)]
        if official_parity:
            return pixels.astype(np.int32).astype(np.uint8)  # modulo 256, on every machine
        return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)

    def _recolour(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Saturation and hue: H in degrees, S in 0..1, V as the pixels."""
        if pixels.size == 0:
            return pixels
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        hsv[..., 1] *= np.float32(self.saturation)
        hue = hsv[..., 0] + np.float32(self.hue_deg)
        hue[hue > 360] -= 360
        hue[hue < 0] += 360
        hsv[..., 0] = hue
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


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
