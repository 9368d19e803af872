"""One scene: streets, objects, ego motion, rig and light, all drawn from one seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bevstack.synthetic.objects.appearance_splits import FAMILIES
from bevstack.synthetic.population.blocks import fill_blocks, lots_of, plan_blocks
from bevstack.synthetic.population.ego import drive_ego
from bevstack.synthetic.population.people import add_people
from bevstack.synthetic.population.population import Population, Role, SceneObject
from bevstack.synthetic.population.road_works import add_road_works, add_roamers
from bevstack.synthetic.population.scenery import add_skyline, line_streets
from bevstack.synthetic.population.traffic import Track, time_steps
from bevstack.synthetic.population.traffic_control import (
    TrafficControl,
    add_traffic_control,
    control_parts,
)
from bevstack.synthetic.population.turning import add_turning_vehicles
from bevstack.synthetic.population.vehicles_on_street import (
    add_classes,
    add_two_wheelers,
    drive_others,
    park_along_kerbs,
)
from bevstack.synthetic.renderer.primitives import C_INSTANCE, P_STATE, Primitives, concatenate
from bevstack.synthetic.renderer.weather import Light, choose_weather, draw_light
from bevstack.synthetic.rig import SensorRig, make_rig
from bevstack.synthetic.spec import WorldSpec
from bevstack.synthetic.streets.ground import Ground, draw_ground
from bevstack.synthetic.streets.roads import (
    AHEAD_M,
    BEHIND_M,
    TOP_SPEED_MPS,
    RoadLayout,
    make_layout,
)
from bevstack.vocabulary import DETECTION_CLASSES

SAMPLE_PERIOD_S = 0.5  # keyframes at 2 Hz


@dataclass(frozen=True)
class Placement:
    """Where a scene lies in the world: the scene frame turned, then moved."""

    yaw_rad: float
    offset_m: np.ndarray  # (2,)

    def to_world(
        self, x_m: np.ndarray | float, y_m: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """World positions of points of the scene."""
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return cos * x_m - sin * y_m + self.offset_m[0], sin * x_m + cos * y_m + self.offset_m[1]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that is needed to render and label any moment of a scene."""

    name: str
    start_us: int  # time of the first sample
    samples: int
    placement: Placement
    rig: SensorRig
    layout: RoadLayout
    ground: Ground
    light: Light
    objects: tuple[SceneObject, ...]
    sizes_m: np.ndarray  # (objects, 3) length, width, height
    object_parts: Primitives  # in each object's own frame; instance = index of the object
    scenery: Primitives  # in the scene's frame
    street_lamps_m: np.ndarray  # (L, 2) x, y below each
    controls: tuple[TrafficControl, ...]
    control_parts: Primitives  # in the scene's frame; instances count on after the objects'
    ego: Track  # of the rear axle, scene frame
    poses: np.ndarray  # (objects, K, 3) x, y, yaw on the time grid
    lamps: np.ndarray  # (objects, K) -1 off, 0 on, 1 braking
    alive: np.ndarray  # (objects, K)

    @property
    def description(self) -> str:
        """Weather, time of day and streets in words, as nuScenes describes its scenes."""
        bend = float(np.ptp(self.ego.pose[:, 2]))
        parts = [self.light.words, "turn" if bend > 0.6 else "bend" if bend > 0.15 else "straight"]
        junctions = len(self.layout.crossings)
        if junctions:
            plural = "s" if junctions > 1 else ""
            parts.append(f"{junctions} junction{plural} with traffic lights")
        if (self.ego.speed_mps < 0.1).any():
            parts.append("stop")
        return ", ".join(parts)


def scene_seed(spec: WorldSpec, name: str) -> np.random.Generator:
    """The only source of draws of a scene; independent of every other scene."""
    digest = hashlib.sha256(f"{spec.seed}/{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def _chosen_classes(index: int, count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Classes put beside the way of the ego in one scene of a split.

    The first two scenes together show all ten, so that no class of a split is without ground
    truth. Later ones get a few at random: were they all alike, a prior would learn where.
    """
    if count == 1:
        return DETECTION_CLASSES
    if index < 2:
        return DETECTION_CLASSES[index::2]
    return tuple(name for name in DETECTION_CLASSES if rng.random() < 0.3)


def build_scene(spec: WorldSpec, name: str) -> Scene:
    """Draws a scene; depends on the seed and the name alone, and on the sizes of the spec."""
    rng = scene_seed(spec, name)
    family, index = spec.family_of(name)
    count = len(spec.families[family])
    vehicle = spec.rig if spec.rig != "mix" else str(rng.choice(["n015", "n008"]))
    jitter = rng if spec.calibration_jitter else None
    rig = make_rig(vehicle, spec.image_size, jitter, camera_yaw_deg=spec.camera_yaw_deg)
    duration = (spec.samples_per_scene - 1) * SAMPLE_PERIOD_S
    steps = time_steps(duration)
    hand = 1.0 if vehicle == "n008" else -1.0  # Boston keeps right, Singapore left
    layout = make_layout(rng, hand, (duration + 2.0) * TOP_SPEED_MPS)
    blocks = plan_blocks(layout, rng)
    ground = draw_ground(layout, lots_of(blocks), rng, _seen_streets(layout))
    population = Population(layout, ground, steps=steps, rng=rng, family=FAMILIES[family])
    drive = drive_ego(population)
    ego = drive.track
    way = tuple(layout.centre.nearest_s(*ego.pose[i, :2]) for i in (0, -1))
    classes = _chosen_classes(index, count, rng)
    add_classes(population, classes, way, certain=index < 2)
    drive_others(population, drive.lane)
    controls = add_traffic_control(population)
    add_turning_vehicles(population)
    park_along_kerbs(population)
    add_road_works(population)
    add_two_wheelers(population)
    line_streets(population)
    fill_blocks(population, blocks)
    add_people(population)
    add_roamers(population)
    add_skyline(population)
    objects = tuple(population.objects)
    phase = int.from_bytes(hashlib.sha256(f"{spec.seed}/{family}".encode()).digest()[:4]) / 2**32
    light = draw_light(choose_weather(spec.weather, index, phase), rng)
    return Scene(
        name=name,
        start_us=1_530_000_000_000_000 + int(name[-4:]) * 100_000_000 + int(rng.integers(10**6)),
        samples=spec.samples_per_scene,
        placement=Placement(rng.uniform(-np.pi, np.pi), rng.uniform(600.0, 2000.0, 2)),
        rig=rig,
        layout=layout,
        ground=population.ground,
        light=light,
        objects=objects,
        sizes_m=np.array([o.model.size_m for o in objects]),
        object_parts=_number_parts(objects),
        scenery=_light_up(concatenate(population.scenery), light),
        controls=tuple(controls),
        control_parts=control_parts(controls, len(objects)),
        street_lamps_m=np.array(population.lamps_m).reshape(-1, 2),
        ego=ego,
        poses=np.stack([o.track.pose for o in objects]),
        lamps=np.stack([_lamps_of(o) for o in objects]),
        alive=np.stack([o.track.alive for o in objects]),
    )


def _seen_streets(layout: RoadLayout) -> np.ndarray:
    """Points (K, 2) of the centre lines of streets along which the ego may drive."""
    s = layout.centre.s_m
    points = layout.centre.points_m[(s > BEHIND_M - 2.0) & (s < s[-1] - AHEAD_M + 2.0)]
    if layout.turn is None:
        return points
    turn, path = layout.turn, layout.crossings[layout.turn.crossing].path
    away = turn.arm * (path.s_m - path.length_m / 2)
    return np.concatenate([points, path.points_m[(away >= 0.0) & (away <= turn.reach_m)]])


def _lamps_of(item: SceneObject) -> np.ndarray:
    """State (K,) of an object's lamps: who does not drive has none lit."""
    driven = item.role in (Role.TRAFFIC, Role.RIDDEN)
    return item.track.braking if driven else np.full_like(item.track.braking, -1.0)


def _light_up(scenery: Primitives, light: Light) -> Primitives:
    """Windows and street lamps, lit at night."""
    paint = scenery.paint.copy()
    paint[:, P_STATE] = 1.0 if light.is_night else -1.0
    return Primitives(scenery.geometry, scenery.codes, paint)


def _number_parts(objects: tuple[SceneObject, ...]) -> Primitives:
    parts = concatenate([o.model.primitives for o in objects])
    counts = [len(o.model.primitives) for o in objects]
    parts.codes[:, C_INSTANCE] = np.repeat(np.arange(len(objects)), counts)
    return parts
