"""Weather and light of a scene: sun, overcast, rain, fog and night, and drops on the lens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.renderer.shading import (
    L_AMBIENT,
    L_BEAM,
    L_CLOUDS,
    L_HAZE_M,
    L_HORIZON,
    L_NIGHT,
    L_SUN,
    L_SUN_X,
    L_WET,
    L_ZENITH,
    LIGHT_SIZE,
)

# Share of each weather in a "mix"; nuScenes has about 12 % of night and 20 % of rain.
SHARES = (
    ("sun", 0.40),
    ("overcast", 0.24),
    ("rain", 0.16),
    ("fog", 0.07),
    ("night", 0.10),
    ("night_rain", 0.03),
)
# The same for the preset `lights`: night is where lamps glow and blend.
RICH_SHARES = (
    ("sun", 0.36),
    ("overcast", 0.18),
    ("rain", 0.12),
    ("fog", 0.06),
    ("night", 0.20),
    ("night_rain", 0.08),
)
_GOLDEN = 0.6180339887498949
_TILE = 512  # px of the fields of noise and of rain

# In the descriptions of scenes. Programs that read nuScenes look for the words "rain" and "night".
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "sun": "Day, sun",
        "overcast": "Day, overcast",
        "rain": "Day, rain",
        "fog": "Day, fog",
        "night": "Night",
        "night_rain": "Night, rain",
    }
)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light and air of a scene, and the cameras' exposure."""

    weather: str  # of `spec.WEATHERS`
    values: NDArray[np.float64]  # (LIGHT_SIZE,) read by `shading`
    clouds: NDArray[np.float32]  # (S, S)
    sun: NDArray[np.float64]  # (3,) unit vector towards the sun, scene frame
    exposure: NDArray[np.float64]  # (3,) gain and white balance, RGB
    noise: float  # of the sensor, relative to its level by day
    glare: float = 0.0  # veiling glare around the sun: its share of white at the sun
    glow: bool = False  # lit lamps of traffic lights glow in dark or wet air

    @property
    def words(self) -> str:
        """Return weather and time of day in words."""
        return _WORDS[self.weather]

    @property
    def is_night(self) -> bool:
        """Return True if lamps are lit."""
        return self.weather.startswith("night")

    @property
    def is_wet(self) -> bool:
        """Return True if it rains."""
        return self.weather.endswith("rain")

    @property
    def shadow(self) -> float:
        """Return the strength 0..1 of cast shadows: the sun's share of the light on the ground."""
        direct = self.values[L_SUN] * self.sun[2]
        return float(direct / (direct + self.values[L_AMBIENT]))


def choose_weather(
    requested: str, index: int, phase: float, shares: Sequence[tuple[str, float]] = SHARES
) -> str:
    """Return the weather of one scene of a split.

    In a mix, successive scenes step through the shares by the golden ratio, so that even a small
    number of scenes shows all of them.

    Args:
        requested: "mix", or the weather to return.
        index: of the scene in its split.
        phase: 0..1, the position of the split's first scene in the shares.
        shares: of each weather in a mix.
    """
    if requested != "mix":
        return requested
    draw = (phase + index * _GOLDEN) % 1.0
    for weather, share in shares:
        if draw < share:
            return weather
        draw -= share
    return shares[0][0]


def draw_light(weather: str, rng: np.random.Generator) -> Light:
    """Draw the light of a scene in a given weather."""
    values = np.zeros(LIGHT_SIZE)
    azimuth = rng.uniform(0, 2 * np.pi)
    low, high = (14, 65) if weather == "sun" else (35, 70)
    elevation = np.deg2rad(rng.uniform(low, high))
    flat = np.cos(elevation)
    sun = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    values[L_SUN_X : L_SUN_X + 3] = sun
    exposure = np.full(3, rng.uniform(0.80, 1.20))
    paint = {"sun": _sunny, "overcast": _overcast, "rain": _rainy, "fog": _foggy}
    paint.get(weather, _nightly)(values, exposure, rng)
    if weather == "night_rain":
        values[L_WET], values[L_HAZE_M] = rng.uniform(0.7, 1.0), rng.uniform(90.0, 200.0)
    return Light(
        weather=weather,
        values=values,
        clouds=_draw_clouds(rng),
        sun=sun,
        exposure=exposure,
        noise=float(rng.uniform(2.0, 3.5)) if weather.startswith("night") else 1.0,
    )


def draw_glare(light: Light, heading_rad: float, rng: np.random.Generator, share: float) -> Light:
    """Let lamps glow, and in a share of the sunny scenes put a low sun ahead, behind the lights.

    Args:
        light: of the scene.
        heading_rad: of the ego at the start, scene frame.
        rng: source of the draws.
        share: of the sunny scenes, 0..1.
    """
    light = replace(light, glow=light.is_night or light.is_wet or light.weather == "fog")
    if light.weather != "sun" or rng.random() > share:
        return light
    azimuth = heading_rad + float(rng.normal(0.0, 0.22))
    elevation = np.deg2rad(rng.uniform(9.0, 24.0))
    flat = np.cos(elevation)
    sun = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    values = light.values.copy()
    values[L_SUN_X : L_SUN_X + 3] = sun
    return replace(light, values=values, sun=sun, glare=float(rng.uniform(0.35, 0.9)))


def _set_sky(
    values: NDArray[np.float64],
    rng: np.random.Generator,
    horizon: NDArray[np.float64],
    zenith: NDArray[np.float64],
) -> None:
    values[L_HORIZON : L_HORIZON + 3] = horizon * rng.uniform(0.9, 1.05)
    values[L_ZENITH : L_ZENITH + 3] = zenith * rng.uniform(0.9, 1.1)


def _sunny(
    values: NDArray[np.float64], exposure: NDArray[np.float64], rng: np.random.Generator
) -> None:
    values[L_SUN], values[L_AMBIENT] = rng.uniform(0.42, 0.62), rng.uniform(0.46, 0.58)
    values[L_HAZE_M] = rng.uniform(260.0, 800.0)
    _set_sky(values, rng, np.array([0.80, 0.83, 0.86]), np.array([0.30, 0.48, 0.76]))
    values[L_CLOUDS], values[L_CLOUDS + 1] = rng.uniform(1.0, 2.5), rng.uniform(0.38, 0.7)
    warmth = max(0.0, 0.5 - values[L_SUN_X + 2])  # a low sun is yellow
    exposure *= np.array([1 + 0.16 * warmth, 1.0, 1 - 0.30 * warmth])


def _overcast(
    values: NDArray[np.float64], exposure: NDArray[np.float64], rng: np.random.Generator
) -> None:
    values[L_SUN], values[L_AMBIENT] = rng.uniform(0.02, 0.09), rng.uniform(0.70, 0.84)
    values[L_HAZE_M] = rng.uniform(180.0, 500.0)
    _set_sky(values, rng, np.array([0.80, 0.82, 0.84]), np.array([0.68, 0.71, 0.75]))
    values[L_CLOUDS], values[L_CLOUDS + 1] = rng.uniform(0.8, 1.6), rng.uniform(0.35, 0.6)
    exposure *= np.array([0.98, 1.0, 1.02])


def _rainy(
    values: NDArray[np.float64], exposure: NDArray[np.float64], rng: np.random.Generator
) -> None:
    values[L_SUN], values[L_AMBIENT] = 0.0, rng.uniform(0.52, 0.70)
    values[L_HAZE_M], values[L_WET] = rng.uniform(90.0, 220.0), rng.uniform(0.6, 1.0)
    _set_sky(values, rng, np.array([0.66, 0.68, 0.71]), np.array([0.54, 0.57, 0.61]))
    values[L_CLOUDS], values[L_CLOUDS + 1] = rng.uniform(0.4, 0.9), 0.4
    exposure *= np.array([0.96, 1.0, 1.04])


def _foggy(
    values: NDArray[np.float64], exposure: NDArray[np.float64], rng: np.random.Generator
) -> None:
    values[L_SUN], values[L_AMBIENT] = rng.uniform(0.0, 0.06), rng.uniform(0.66, 0.78)
    values[L_HAZE_M] = rng.uniform(30.0, 75.0)
    grey = np.array([0.72, 0.73, 0.75])
    _set_sky(values, rng, grey, grey)
    values[L_CLOUDS + 1] = 1.0
    exposure *= rng.uniform(0.95, 1.05)


def _nightly(
    values: NDArray[np.float64], exposure: NDArray[np.float64], rng: np.random.Generator
) -> None:
    values[L_SUN], values[L_AMBIENT] = 0.02, rng.uniform(0.12, 0.24)
    values[L_HAZE_M] = rng.uniform(200.0, 500.0)
    values[L_NIGHT], values[L_BEAM] = 1.0, rng.uniform(0.5, 0.9)
    _set_sky(values, rng, np.array([0.10, 0.095, 0.11]), np.array([0.015, 0.018, 0.035]))
    values[L_CLOUDS + 1] = 1.0
    exposure *= rng.uniform(1.15, 1.6) * np.array([1.05, 1.0, 0.94])


def _draw_clouds(rng: np.random.Generator) -> NDArray[np.float32]:
    octaves = np.zeros((256, 256), np.float32)
    for cells, weight in ((8, 0.6), (16, 0.3), (32, 0.15)):
        coarse = rng.random((cells, cells)).astype(np.float32)
        octaves += weight * cv2.resize(np.tile(coarse, (3, 3)), (768, 768))[256:512, 256:512]
    return octaves


def draw_rain_field(rng: np.random.Generator, image_height: int) -> NDArray[np.float32]:
    """Draw streaks of falling drops (512, 512), in units of 0..255, to add to images as noise."""
    field = np.zeros((_TILE, _TILE), np.float32)
    scale = image_height / 225
    slant = float(rng.normal(0.0, 0.12))
    for _ in range(int(rng.uniform(120, 420) / scale)):
        x, y = rng.uniform(0, _TILE, 2)
        length = scale * rng.uniform(8, 26)
        start, end = (int(x), int(y)), (int(x + slant * length), int(y + length))
        brightness = (float(rng.uniform(6, 22)),)
        cv2.line(field, start, end, brightness, max(1, round(0.7 * scale)), cv2.LINE_8)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), 0.5 * scale), np.float32)


@dataclass(frozen=True)
class Drop:
    """A drop on a lens: centre and radius in units of the image's height."""

    x: float
    y: float
    radius: float


def draw_drops(rng: np.random.Generator) -> tuple[Drop, ...]:
    """Draw the drops on the lens of one camera; they stay for the whole scene."""
    count = int(rng.integers(0, 9))
    return tuple(
        Drop(rng.uniform(0, 1.78), rng.uniform(0, 1), rng.uniform(0.012, 0.05))
        for _ in range(count)
    )


def see_through_drops(
    image: NDArray[np.uint8],  # (H, W, 3) in and out
    drops: tuple[Drop, ...],
) -> None:
    """Smooth and flip the image behind each drop, in place."""
    height, width = image.shape[:2]
    for drop in drops:
        radius = max(2, round(drop.radius * height))
        x = round(np.clip(drop.x * height, radius, width - 1 - radius))
        y = round(np.clip(drop.y * height, radius, height - 1 - radius))
        patch = image[y - radius : y + radius + 1, x - radius : x + radius + 1]
        flipped = cv2.blur(patch[::-1], (radius, radius)).astype(np.float32)
        row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1] / radius
        inside = np.clip(1.6 - 1.6 * np.hypot(row, column), 0, 1)[..., None]
        patch[:] = (inside * flipped + (1 - inside) * patch).astype(np.uint8)
