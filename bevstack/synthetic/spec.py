"""Specification and summary of a synthetic world."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

# Increase it when the same WorldSpec gives different bytes: worlds of older versions are rejected.
GENERATOR_VERSION = 3

# Ids that the CAN-bus API of nuscenes-devkit rejects (it has no such logs).
CAN_BUS_BLACKLIST = frozenset({*range(161, 169), *range(170, 177), *range(309, 315)})

MINI_TRAIN = tuple(f"scene-{i:04d}" for i in (61, 553, 655, 757, 796, 1077, 1094, 1100))
MINI_VAL = ("scene-0103", "scene-0916")
# The ids of real nuScenes end at 1110.
_FIRST_ID = {"train": 2001, "val": 6001, "test": 8001}
_MAX_SCENES = {"train": 3900, "val": 1900, "test": 1900}  # so that no name is in two splits

SIMPLE, RICH = "simple", "rich"  # values of WorldSpec.traffic
LOW_SUN_SHARE = 0.45

WEATHERS = ("sun", "overcast", "rain", "fog", "night", "night_rain")


@dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """Settings of a world. All fields except `processes` determine its bytes.

    Raises:
        ValueError: a field is out of range, or the world has no scene.
    """

    seed: int = 0
    version: str = "v1.0-synth"  # folder of the tables; "v1.0-mini" takes the ten official names
    train_scenes: int = 20
    val_scenes: int = 5
    test_scenes: int = 0  # in colours and sizes that train and val never show
    samples_per_scene: int = 40  # at 2 Hz; real scenes last 20 s
    image_size: tuple[int, int] = (225, 400)  # (H, W) px; 16:9 within 2 %
    supersampling: int = 1  # rays per pixel and axis
    rig: str = "mix"  # "n015", "n008", or "mix" (drawn per scene)
    calibration_jitter: bool = True
    camera_yaw_deg: float = 0.0  # extra yaw of every camera; the calibration includes it
    lidar_azimuths: int = 542  # columns of the sweep; 1084 on the real sensor
    jpeg_quality: int = 90  # 1..100
    weather: str = "mix"  # one of WEATHERS for all scenes, or "mix" (nuScenes-like shares)
    sweeps: bool = False  # also record between keyframes: cameras at 12 Hz, lidar at 20 Hz
    traffic: str = SIMPLE  # RICH: lights, signs, lanes and looks of the preset `lights`
    front_sweeps: bool = False  # images at 12 Hz of the front camera in the test scenes
    # Lights over time: the front camera alone, at 12 Hz in all scenes, and more lights at red.
    drives: bool = False
    dense_labels: bool = False  # also write depth and semantics of every image
    front_alone: bool = False  # no camera but the front one, as in drives, at the key frames alone
    low_sun_share: float = LOW_SUN_SHARE  # of the sunny scenes of RICH: a low sun ahead, and glare
    processes: int = field(default=1, compare=False)  # the bytes do not depend on it

    def __post_init__(self) -> None:
        height, width = self.image_size
        _require(height >= 32 and width >= 32, "image_size", "at least (32, 32)", self.image_size)
        _require(
            abs(width * 9 / (height * 16) - 1) < 0.02,
            "image_size",
            "(height, width) of 16:9 within 2 %, so that pixels stay square",
            self.image_size,
        )
        _require(self.rig in ("n015", "n008", "mix"), "rig", "'n015', 'n008' or 'mix'", self.rig)
        yaw_deg = self.camera_yaw_deg
        _require(abs(yaw_deg) <= 180, "camera_yaw_deg", "within +-180 degrees", yaw_deg)
        _require(1 <= self.supersampling <= 4, "supersampling", "1 to 4", self.supersampling)
        _require(1 <= self.jpeg_quality <= 100, "jpeg_quality", "1 to 100", self.jpeg_quality)
        _require(
            64 <= self.lidar_azimuths <= 4096, "lidar_azimuths", "64 to 4096", self.lidar_azimuths
        )
        _require(
            1 <= self.samples_per_scene <= 400,
            "samples_per_scene",
            "1 to 400",
            self.samples_per_scene,
        )
        _require(1 <= self.processes <= 256, "processes", "1 to 256", self.processes)
        _require(0 <= self.seed < 2**63, "seed", "0 to 2**63 - 1", self.seed)
        _require(
            self.weather in (*WEATHERS, "mix"),
            "weather",
            f"'mix' or one of {', '.join(WEATHERS)}",
            self.weather,
        )
        _require(self.traffic in (SIMPLE, RICH), "traffic", "'simple' or 'rich'", self.traffic)
        share = self.low_sun_share
        _require(0 <= share <= 1, "low_sun_share", "0 to 1", share)
        self._check_counts()
        self._check_version()

    def _check_counts(self) -> None:
        for split, most in _MAX_SCENES.items():
            count = getattr(self, f"{split}_scenes")
            _require(0 <= count <= most, f"{split}_scenes", f"0 to {most}", count)
        counts = (self.train_scenes, self.val_scenes, self.test_scenes)
        _require(
            any(counts), "train_scenes, val_scenes and test_scenes", "one scene or more", counts
        )

    def _check_version(self) -> None:
        if self.version == "v1.0-mini":
            counts = (self.train_scenes, self.val_scenes, self.test_scenes)
            _require(
                counts == (len(MINI_TRAIN), len(MINI_VAL), 0),
                "train_scenes, val_scenes and test_scenes of version v1.0-mini",
                "8, 2 and 0 (its ten scene names are fixed)",
                counts,
            )
        else:
            _require(
                self.version.startswith("v1.0-") and self.version.endswith("synth"),
                "version",
                "'v1.0-mini' or 'v1.0-<anything>synth' (the devkit ties other names to splits)",
                self.version,
            )

    @property
    def split_scenes(self) -> dict[str, tuple[str, ...]]:
        """Return the scene names of each split that has scenes: "train", "val" and "test".

        No scene is in two splits, and no name is one that the devkit rejects.
        """
        if self.version == "v1.0-mini":
            return {"train": MINI_TRAIN, "val": MINI_VAL}
        counts = {"train": self.train_scenes, "val": self.val_scenes, "test": self.test_scenes}
        return {
            split: tuple(f"scene-{_FIRST_ID[split] + i:04d}" for i in range(count))
            for split, count in counts.items()
            if count
        }

    def split_of(self, name: str) -> tuple[str, int]:
        """Return the split of a scene and the scene's index in it.

        Raises:
            ValueError: this world has no such scene.
        """
        for split, names in self.split_scenes.items():
            if name in names:
                return split, names.index(name)
        raise ValueError(f"name must be a scene of this world; got {name!r}")

    def to_json(self) -> dict[str, object]:
        """Return the fields that determine the bytes as plain JSON values.

        Fields that later versions added are left out at their defaults, so that worlds from before
        these fields compare equal.
        """
        values = asdict(self)
        del values["processes"]
        for name, default in (
            ("camera_yaw_deg", 0.0),
            ("traffic", SIMPLE),
            ("front_sweeps", False),
            ("drives", False),
            ("dense_labels", False),
            ("front_alone", False),
            ("low_sun_share", LOW_SUN_SHARE),
        ):
            if values[name] == default:
                del values[name]
        values["image_size"] = list(self.image_size)
        return values


@dataclass(frozen=True, kw_only=True)
class WorldSummary:
    """Contents and cost of a finished world."""

    root: str
    version: str
    scenes: int
    samples: int
    annotations: int
    annotations_per_class: dict[str, int]  # detection classes only
    digest: str  # SHA-256 over every file's path and bytes
    seconds: float  # wall time; 0.0 if an identical world already existed
    cpu_seconds: float  # over all processes


def _require(holds: bool, name: str, wanted: str, got: object) -> None:
    if not holds:
        raise ValueError(f"WorldSpec.{name} must be {wanted}; got {got!r}")
