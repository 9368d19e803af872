"""Models fill their boxes and do not overlap; their masks lie in the projected boxes."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import shapely
import shapely.affinity

from bevstack.synthetic.objects import people_and_props, vehicles
from bevstack.synthetic.objects.appearance_splits import APPEARANCE_SPLITS
from bevstack.synthetic.population.collision_check import rectangles_overlap
from bevstack.synthetic.population.traffic import sample_tracks
from bevstack.synthetic.recording.camera import Sensor, camera_pose, freeze, take_picture
from bevstack.synthetic.renderer.patterns import paint
from bevstack.synthetic.renderer.primitives import Kind, Pattern, PrimitiveList
from bevstack.tables.names import CATEGORIES

MAKERS = {
    "car": vehicles.make_car,
    "truck": vehicles.make_truck,
    "bus": vehicles.make_bus,
    "trailer": vehicles.make_trailer,
    "construction_vehicle": vehicles.make_construction_vehicle,
    "adult": people_and_props.make_pedestrian,
    "walker": lambda rng: people_and_props.make_pedestrian(rng, walks=True),
    "worker": lambda rng: people_and_props.make_pedestrian(rng, worker=True),
    "bicycle": lambda rng: people_and_props.make_bicycle(rng, rider=False),
    "cyclist": lambda rng: people_and_props.make_bicycle(rng, rider=True),
    "motorcycle": lambda rng: people_and_props.make_motorcycle(rng, rider=False),
    "motorcyclist": lambda rng: people_and_props.make_motorcycle(rng, rider=True),
    "barrier": people_and_props.make_barrier,
    "cone": people_and_props.make_cone,
    "rack": people_and_props.make_bicycle_rack,
    "clutter": people_and_props.make_clutter,
}


def extent(model) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest coordinates (3,) of the corners of all parts."""
    g = model.primitives.geometry
    reach = np.stack(
        [
            np.abs(g[:, 3]) * g[:, 5] + np.abs(g[:, 4]) * g[:, 6],
            np.abs(g[:, 4]) * g[:, 5] + np.abs(g[:, 3]) * g[:, 6],
            g[:, 7],
        ],
        axis=1,
    )
    # a BOX may also lean outwards (negative slope), over its height
    boxes = model.primitives.codes[:, 0] == Kind.BOX
    out = np.maximum(0.0, -g[:, 8:11]).max(axis=1) * 2 * g[:, 7] * boxes
    reach[:, :2] += out[:, None]
    return (g[:, :3] - reach).min(axis=0), (g[:, :3] + reach).max(axis=0)


@pytest.mark.parametrize("name", MAKERS)
def test_model_fills_its_box_and_stays_inside(name):
    for seed in range(60):
        model = MAKERS[name](np.random.default_rng(seed))
        assert model.category in CATEGORIES
        low, high = extent(model)
        half = np.array(model.size_m[:2]) / 2
        # 6 cm: bumpers, handlebars and tyres differ by a few centimetres from the drawn size.
        assert (low[:2] > -half - 0.06).all() and (high[:2] < half + 0.06).all(), (seed, low, high)
        assert low[2] == pytest.approx(0.0, abs=1e-9)
        assert high[2] == pytest.approx(model.size_m[2], abs=0.06)
        # Each side of the box is within 15 % of its size from the model.
        size = np.array(model.size_m)
        assert ((high - low) > 0.85 * size - 0.03).all(), (seed, high - low, size)


def draw_sizes(name: str) -> np.ndarray:
    """Draw 400 sizes (length, width, height) of a class, with its kinds mixed as in the scenes."""
    mixed = {
        "pedestrian": ("walker", "walker", "adult"),  # 68 % of the real ones move
        "motorcycle": ("motorcycle", "motorcyclist", "motorcycle"),
        "bicycle": ("bicycle", "cyclist"),
    }.get(name, (name,))
    rng = np.random.default_rng(0)
    return np.array([MAKERS[mixed[i % len(mixed)]](rng).size_m for i in range(400)])


# length, width, height: seven classes of the real mini_val split; for the three that are rare
# there, the mean sizes of the whole training split, as published with anchor-based detectors.
REAL_SIZES = {
    "car": (4.53, 1.81, 1.67),
    "pedestrian": (0.68, 0.63, 1.74),
    "truck": (5.89, 2.23, 2.71),
    "bus": (12.1, 2.88, 3.42),
    "motorcycle": (2.07, 0.61, 1.33),
    "bicycle": (1.80, 0.60, 1.44),
    "cone": (0.35, 0.32, 0.91),
    "trailer": (12.01, 2.87, 3.82),
    "construction_vehicle": (6.38, 2.73, 3.13),
    "barrier": (0.50, 2.53, 0.98),
}


@pytest.mark.parametrize("name", REAL_SIZES)
def test_mean_sizes_are_those_of_nuscenes(name):
    # A mean of 400 draws is off by a percent; a two-wheeler's depends on how many have riders.
    np.testing.assert_allclose(draw_sizes(name).mean(axis=0), REAL_SIZES[name], rtol=0.06)


def test_sizes_of_cars_vary_as_in_nuscenes():
    np.testing.assert_allclose(draw_sizes("car").std(axis=0), (0.36, 0.14, 0.18), rtol=0.12)


def test_test_split_shows_other_colours_and_sizes_and_keeps_models_in_their_boxes():
    test, train = APPEARANCE_SPLITS["test"], APPEARANCE_SPLITS["train"]
    rng = np.random.default_rng(3)
    plain = vehicles.make_car(np.random.default_rng(0))
    assert train.restyle(plain, rng) is plain
    ratios = []
    for name in MAKERS:
        model = MAKERS[name](np.random.default_rng(5))
        restyled = test.restyle(model, rng)
        assert restyled.category == model.category
        low, high = extent(restyled)
        half = np.array(restyled.size_m[:2]) / 2
        assert (low[:2] > -half - 0.06).all() and (high[:2] < half + 0.06).all()
        assert high[2] == pytest.approx(restyled.size_m[2], abs=0.06)
        ratios.append(np.divide(restyled.size_m, model.size_m))
        np.testing.assert_array_equal(restyled.primitives.codes, model.primitives.codes)
    assert 0.01 < np.std(ratios) < 0.09 and 0.98 < np.mean(ratios) < 1.07
    red = PrimitiveList()
    red.add(Pattern.CAR_BODY, (0, 0, 0), (4, 2, 1), (0.8, 0.1, 0.1))
    red.add(Pattern.TYRE, (0, 0, 0), (4, 2, 1), (0.05, 0.05, 0.05))
    car = test.restyle(replace(plain, primitives=red.finish()), rng)
    assert car.primitives.paint[0, 0] < 0.7 and car.primitives.paint[0, :3].max() > 0.3
    np.testing.assert_allclose(car.primitives.paint[1, :3], 0.05)
    cone = people_and_props.make_cone(np.random.default_rng(0))
    np.testing.assert_array_equal(
        test.restyle(cone, rng).primitives.paint, cone.primitives.paint
    )  # safety colours stay


def test_overlap_of_rectangles_equals_shapely():
    rng = np.random.default_rng(0)
    overlapping = 0
    for _ in range(400):
        a, b = (
            np.array([*rng.uniform(-3, 3, 2), rng.uniform(-7, 7), *rng.uniform(0.3, 5, 2)])
            for _ in range(2)
        )
        shapes = [
            shapely.affinity.translate(
                shapely.affinity.rotate(
                    shapely.box(-r[3] / 2, -r[4] / 2, r[3] / 2, r[4] / 2), r[2], (0, 0), True
                ),
                r[0],
                r[1],
            )
            for r in (a, b)
        ]
        wanted = shapes[0].intersection(shapes[1]).area > 1e-9
        assert rectangles_overlap(a, b) == wanted
        overlapping += wanted
    assert 50 < overlapping < 350


def test_no_two_objects_ever_overlap(scene):
    sizes = np.array([o.model.size_m[:2] for o in scene.objects])
    for index in range(scene.samples):
        time_s = 0.5 * index
        pose = sample_tracks(scene.poses, time_s)
        alive = sample_tracks(scene.alive.astype(float), time_s) > 0.999
        ego = sample_tracks(scene.ego.pose[None], time_s)
        body = [ego[0, 0] + 1.3 * np.cos(ego[0, 2]), ego[0, 1] + 1.3 * np.sin(ego[0, 2]), ego[0, 2]]
        rows = np.concatenate([pose[alive], [body]])
        lengths = np.concatenate([sizes[alive], [(4.6, 1.9)]])
        polygons = []
        for (x, y, yaw), (length, width) in zip(rows, lengths, strict=True):
            corner = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * [length / 2, width / 2]
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            polygons.append(shapely.Polygon(corner @ turn + [x, y]))
        tree = shapely.STRtree(polygons)
        first, second = tree.query(polygons, predicate="intersects")
        for a, b in zip(first, second, strict=True):
            # In bends a trailer swings towards its truck; objects move between two checks.
            assert a >= b or polygons[a].intersection(polygons[b]).area < 0.05


def visible_objects(scene, time_s: float):
    """Yield index, mask, projected corners and camera of each fully visible object."""
    height, width = scene.rig.image_size
    noiseless = Sensor(
        supersampling=1,
        gains=np.ones(3),
        noise=np.zeros((2, 2), np.float32),
        noise_at=(0, 0),
    )
    for camera in scene.rig.cameras:
        moment = freeze(scene, time_s + camera.time_offset_us * 1e-6)
        picture = take_picture(scene, moment, camera, noiseless)
        pose = sample_tracks(scene.poses, time_s + camera.time_offset_us * 1e-6)
        whole = (picture.visible_px >= 150) & (picture.visible_px == picture.unoccluded_px)
        for index in np.nonzero(whole)[0]:
            pixels = project(scene, camera, moment.ego_pose, index, pose[index])
            if pixels is not None and pixels.min() > 0 and (pixels < [width, height]).all():
                yield index, picture.instance == index, pixels, camera


def project(scene, camera, ego_pose, index: int, pose) -> np.ndarray | None:
    """Project the corners (8, 2) of an object's box; return None if one is behind the camera."""
    centre, rotation = camera_pose(ego_pose, camera)
    length, wide, tall = scene.objects[index].model.size_m
    x, y, yaw = pose
    corners = np.array(
        [[a * length / 2, b * wide / 2, z] for a in (1, -1) for b in (1, -1) for z in (0, tall)]
    )
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    in_camera = (corners @ turn + [x, y, 0] - centre) @ rotation
    pixels = in_camera @ camera.intrinsics.T
    return None if in_camera[:, 2].min() < 0.5 else pixels[:, :2] / pixels[:, 2:]


def filled(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask of the pixels whose centres lie in the convex hull of some points."""
    hull = shapely.MultiPoint(pixels).convex_hull
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(hull, columns.ravel(), rows.ravel()).reshape(shape)


def test_a_solid_box_covers_exactly_the_hull_of_its_projected_corners(scene):
    solid = PrimitiveList()
    for item in scene.objects:
        solid.add(Pattern.PLAIN, (0, 0, 0), item.model.size_m, (1, 1, 1))
    parts = solid.finish()
    parts.codes[:, 2] = np.arange(len(scene.objects))
    compared = 0
    for _, mask, pixels, _ in visible_objects(replace(scene, object_parts=parts), 1.0):
        np.testing.assert_array_equal(mask, filled(pixels, mask.shape))
        compared += 1
    assert compared >= 5


def test_pixels_show_objects_where_they_are_at_the_cameras_own_time(scene):
    """Check that boxes at the camera's time cover fast objects, and at the sample's time do not."""
    solid = PrimitiveList()
    for item in scene.objects:
        solid.add(Pattern.PLAIN, (0, 0, 0), item.model.size_m, (1, 1, 1))
    parts = solid.finish()
    parts.codes[:, 2] = np.arange(len(scene.objects))
    early = [c for c in scene.rig.cameras if c.time_offset_us < -25_000]
    boxed = replace(scene, object_parts=parts, rig=replace(scene.rig, cameras=tuple(early)))
    compared = 0
    for time_s in np.arange(0.5, 10.0, 0.5):
        now = sample_tracks(scene.poses, time_s)
        for index, mask, pixels, camera in visible_objects(boxed, time_s):
            lead_s = -camera.time_offset_us * 1e-6
            speed = sample_tracks(scene.objects[index].track.speed_mps[None], time_s)[0]
            then = sample_tracks(scene.poses, time_s - lead_s)[index]
            if speed < 4.0:
                continue
            assert np.hypot(*(now[index] - then)[:2]) == pytest.approx(speed * lead_s, rel=0.1)
            ego = sample_tracks(scene.ego.pose[None], time_s - lead_s)[0]
            at_sample = project(scene, camera, ego, index, now[index])
            np.testing.assert_array_equal(mask, filled(pixels, mask.shape))
            if np.abs(at_sample - pixels).max() > 1.5:
                assert (filled(at_sample, mask.shape) != mask).any()
                compared += 1
    assert compared >= 3


def test_masks_of_the_models_agree_with_the_projected_boxes(scene):
    overlap = defaultdict(list)
    for time_s in (1.0, 4.5, 8.0):
        for index, mask, pixels, _ in visible_objects(scene, time_s):
            hull = shapely.MultiPoint(pixels).convex_hull.buffer(1.0)
            rows, columns = np.nonzero(mask)
            assert shapely.contains_xy(hull, columns + 0.5, rows + 0.5).mean() > 0.99
            drawn = shapely.box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            boxed = shapely.box(*pixels.min(axis=0), *pixels.max(axis=0))
            iou = drawn.intersection(boxed).area / drawn.union(boxed).area
            overlap[scene.objects[index].model.category].append(iou)
    boxy = ("vehicle.t", "vehicle.bus", "vehicle.car", "movable_object.barrier")
    large = [v for name, rows in overlap.items() if name.startswith(boxy) for v in rows]
    # Cabins slope, so a car ends a few pixels inside the corners of its box. People and
    # two-wheelers are thinner than their boxes.
    assert len(large) >= 10 and np.median(large) > 0.9 and min(large) > 0.8
    everything = [v for rows in overlap.values() for v in rows]
    assert min(everything) > 0.4


def test_braking_lights_the_rear_lamps():
    """Compare a car from behind with and without braking: only braking lamps are bright red."""
    grey = (0.5, 0.5, 0.5)
    driving = paint(Pattern.CAR_BODY, 1, 0.1, 0.7, 0.0, 0.0, grey, grey, 0.0, 0.0)
    braking = paint(Pattern.CAR_BODY, 1, 0.1, 0.7, 0.0, 0.0, grey, grey, 1.0, 0.0)
    assert driving[0] < 0.6 < 0.95 < braking[0] and braking[3] == 1.0
    assert braking[0] > 5 * braking[1] and driving[0] > 5 * driving[1]


def test_front_and_rear_of_a_car_differ_in_the_picture():
    """Check that the heading is visible: the rear is red and the front is not."""

    def redness(face: int) -> float:
        rows = [
            paint(Pattern.CAR_BODY, face, u, v, 0, 0, (0.5,) * 3, (0.1,) * 3, 1.0, 0.0)
            for u in np.linspace(0.01, 0.99, 40)
            for v in np.linspace(0.01, 0.99, 40)
        ]
        return float(np.mean([r - (g + b) / 2 for r, g, b, _ in rows]))

    assert redness(1) > 0.1 and abs(redness(0)) < 0.03
