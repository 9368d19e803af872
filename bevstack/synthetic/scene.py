"""Scenes: streets, objects, ego motion, rig and light, all drawn from one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.objects.appearance_splits import APPEARANCE_SPLITS
from bevstack.synthetic.population.blocks import block_lots, fill_blocks, plan_blocks
from bevstack.synthetic.population.ego import EgoDrive, drive_ego
from bevstack.synthetic.population.people import add_people
from bevstack.synthetic.population.population import Population, Role, SceneObject
from bevstack.synthetic.population.rich_ego import drive_rich_ego
from bevstack.synthetic.population.rich_lights import add_rich_lights
from bevstack.synthetic.population.rich_signs import add_advertisements, add_rich_signs
from bevstack.synthetic.population.rich_vehicles import drive_rich_vehicles
from bevstack.synthetic.population.road_works import add_road_works, add_roamers
from bevstack.synthetic.population.routes import ego_route, lane_graph
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
    drive_vehicles,
    park_along_kerbs,
)
from bevstack.synthetic.renderer.primitives import C_INSTANCE, P_STATE, Primitives, concatenate
from bevstack.synthetic.renderer.weather import (
    RICH_SHARES,
    SHARES,
    Light,
    choose_weather,
    draw_glare,
    draw_light,
)
from bevstack.synthetic.rig import SensorRig, front_alone, make_rig
from bevstack.synthetic.spec import RICH, WorldSpec
from bevstack.synthetic.streets.ground import Ground, draw_ground
from bevstack.synthetic.streets.lane_graph import Key, LanePiece
from bevstack.synthetic.streets.rich_layout import make_rich_layout
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
    """Transform from the scene frame to the world frame: a rotation, then a translation."""

    yaw_rad: float
    offset_m: NDArray[np.float64]  # (2,)

    def to_world(
        self, x_m: NDArray[np.float64] | float, y_m: NDArray[np.float64] | float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Transform points from scene to world coordinates."""
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return cos * x_m - sin * y_m + self.offset_m[0], sin * x_m + cos * y_m + self.offset_m[1]


@dataclass(frozen=True)
class RouteMap:
    """Lane graph of a scene, and the ego's route through it."""

    graph: Mapping[Key, LanePiece]
    route: tuple[Key, ...]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that rendering and labelling of a scene need, at any time.

    Letters: K steps of the time grid, L street lamps.
    """

    name: str
    start_us: int  # time of the first sample
    samples: int
    placement: Placement
    rig: SensorRig
    layout: RoadLayout
    ground: Ground
    light: Light
    objects: tuple[SceneObject, ...]
    sizes_m: NDArray[np.float64]  # (objects, 3) length, width, height
    object_parts: Primitives  # in each object's frame; instance = index of the object
    scenery: Primitives  # in the scene frame
    street_lamps_m: NDArray[np.float64]  # (L, 2) x, y below each
    controls: tuple[TrafficControl, ...]
    control_parts: Primitives  # in the scene frame; instance = number of objects + index
    ego: Track  # of the rear axle, scene frame
    poses: NDArray[np.float64]  # (objects, K, 3) x, y, yaw on the time grid
    lamps: NDArray[np.float64]  # (objects, K) -1 off, 0 on, 1 braking
    alive: NDArray[np.bool_]  # (objects, K)
    lanes: RouteMap | None = None  # with the traffic of the preset `lights` alone

    @property
    def description(self) -> str:
        """Return weather, time of day and streets in words, in the style of nuScenes."""
        bend = float(np.ptp(self.ego.pose[:, 2]))
        parts = [self.light.words, "turn" if bend > 0.6 else "bend" if bend > 0.15 else "straight"]
        junctions = len(self.layout.crossings)
        if junctions:
            plural = "s" if junctions > 1 else ""
            parts.append(f"{junctions} junction{plural} with traffic lights")
        if (self.ego.speed_mps < 0.1).any():
            parts.append("stop")
        return ", ".join(parts)


def scene_rng(spec: WorldSpec, name: str) -> np.random.Generator:
    """Return the only source of random draws of a scene; scenes are independent of each other."""
    digest = hashlib.sha256(f"{spec.seed}/{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def _choose_classes(index: int, count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Choose the classes to add beside the ego's path in one scene of a split.

    The first two scenes together show all ten classes, so that each class of a split has ground
    truth. Later scenes get a random subset. If all scenes had all classes, a model could learn
    their positions without looking at the images.
    """
    if count == 1:
        return DETECTION_CLASSES
    if index < 2:
        return DETECTION_CLASSES[index::2]
    return tuple(name for name in DETECTION_CLASSES if rng.random() < 0.3)


def build_scene(spec: WorldSpec, name: str) -> Scene:
    """Draw a scene; it depends on the seed, the name and the settings of the specification.

    Raises:
        ValueError: the world has no scene of this name.
    """
    rng = scene_rng(spec, name)
    split, index = spec.split_of(name)
    count = len(spec.split_scenes[split])
    vehicle = spec.rig if spec.rig != "mix" else str(rng.choice(["n015", "n008"]))
    jitter = rng if spec.calibration_jitter else None
    rig = make_rig(vehicle, spec.image_size, jitter, camera_yaw_deg=spec.camera_yaw_deg)
    rig = front_alone(rig) if spec.drives or spec.front_alone else rig
    duration = (spec.samples_per_scene - 1) * SAMPLE_PERIOD_S
    steps = time_steps(duration)
    hand = 1.0 if vehicle == "n008" else -1.0  # Boston drives on the right, Singapore on the left
    weather, rich = _choose_weather(spec, split, index), spec.traffic == RICH
    travel_m = (duration + 2.0) * TOP_SPEED_MPS
    layout = _make_layout(rng, hand, travel_m, weather if rich else None, spec.drives)
    blocks = plan_blocks(layout, rng)
    ground = draw_ground(layout, block_lots(blocks), rng, _drivable_points(layout))
    appearance = APPEARANCE_SPLITS[split]
    population = Population(layout, ground, steps=steps, rng=rng, appearance=appearance)
    drive = drive_rich_ego(population) if rich else drive_ego(population)
    ego = drive.track
    start_s, end_s = (layout.centre.nearest_s(*ego.pose[i, :2]) for i in (0, -1))
    classes = _choose_classes(index, count, rng)
    add_classes(population, classes, (start_s, end_s), certain=index < 2)
    controls = _add_vehicles_and_controls(population, drive, rich)
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
    light = draw_light(weather, rng)
    if rich:
        light = draw_glare(light, float(ego.pose[0, 2]), rng, spec.low_sun_share)
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
        scenery=_switch_lamps(concatenate(population.scenery), light),
        controls=tuple(controls),
        control_parts=control_parts(controls, len(objects)),
        street_lamps_m=np.array(population.lamps_m).reshape(-1, 2),
        ego=ego,
        poses=np.stack([o.track.pose for o in objects]),
        lamps=np.stack([_lamp_states(o) for o in objects]),
        alive=np.stack([o.track.alive for o in objects]),
        lanes=RouteMap(lane_graph(layout), tuple(ego_route(layout, drive))) if rich else None,
    )


def _make_layout(
    rng: np.random.Generator,
    hand: float,
    travel_m: float,
    rich_weather: str | None,
    waits: bool,
) -> RoadLayout:
    """Draw the streets of a scene; the weather is given for those of the preset `lights`."""
    if rich_weather is None:
        return make_layout(rng, hand, travel_m)
    night = rich_weather.startswith("night")
    return make_rich_layout(rng, hand, travel_m, night=night, waits=waits)


def _choose_weather(spec: WorldSpec, split: str, index: int) -> str:
    digest = hashlib.sha256(f"{spec.seed}/{split}".encode()).digest()
    phase = int.from_bytes(digest[:4], "big") / 2**32
    shares = RICH_SHARES if spec.traffic == RICH else SHARES
    return choose_weather(spec.weather, index, phase, shares)


def _add_vehicles_and_controls(
    population: Population, drive: EgoDrive, rich: bool
) -> Sequence[TrafficControl]:
    """Add the traffic beside the ego, and the lights and signs; return these."""
    if not rich:
        drive_vehicles(population, drive.lane)
        return add_traffic_control(population)
    lights = add_rich_lights(population)  # before the vehicles, which may hide no pole's place
    drive_rich_vehicles(population, drive.lane)
    signs = add_rich_signs(population)
    add_advertisements(population)
    return [*lights, *signs]


def _drivable_points(layout: RoadLayout) -> NDArray[np.float64]:
    """Return points (P, 2) of the centre lines of the streets along which the ego may drive."""
    s = layout.centre.s_m
    points: NDArray[np.float64] = layout.centre.points_m[
        (s > BEHIND_M - 2.0) & (s < s[-1] - AHEAD_M + 2.0)
    ]
    if layout.turn is None:
        return points
    turn, path = layout.turn, layout.crossings[layout.turn.crossing].path
    distance = turn.arm * (path.s_m - path.length_m / 2)
    inside = (distance >= 0.0) & (distance <= turn.reach_m)
    return np.concatenate([points, path.points_m[inside]])


def _lamp_states(item: SceneObject) -> NDArray[np.float64]:
    """Return the states (K,) of an object's lamps; all off if it has no driver."""
    driven = item.role in (Role.TRAFFIC, Role.RIDDEN)
    return item.track.braking if driven else np.full_like(item.track.braking, -1.0)


def _switch_lamps(scenery: Primitives, light: Light) -> Primitives:
    """Return the scenery with windows and street lamps on at night and off by day."""
    paint = scenery.paint.copy()
    paint[:, P_STATE] = 1.0 if light.is_night else -1.0
    return Primitives(scenery.geometry, scenery.codes, paint)


def _number_parts(objects: tuple[SceneObject, ...]) -> Primitives:
    """Concatenate the primitives of all objects; instance = index of the object."""
    parts = concatenate([o.model.primitives for o in objects])
    counts = [len(o.model.primitives) for o in objects]
    parts.codes[:, C_INSTANCE] = np.repeat(np.arange(len(objects)), counts)
    return parts
