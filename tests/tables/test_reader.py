from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bevstack.tables.reader import Tables
from tests.conftest import shared_dir
from tests.tables.devkit import open_devkit
from tests.tables.tiny_root import SCENES, VERSION, read_table, token, write_tables, write_tiny_root


@pytest.fixture(params=["msgspec", "standard library"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with both parsers, which must give the same values and errors."""
    if request.param == "msgspec":
        pytest.importorskip("msgspec")
    else:
        monkeypatch.setitem(sys.modules, "msgspec", None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def _change(root: Path, table: str, field: str, value: object, row: int = 0) -> None:
    rows = read_table(root, table)
    rows[row][field] = value
    write_tables(root, {table: rows})


def test_columns_equal_the_rows_of_the_file(root: Path) -> None:
    tables = Tables(root, VERSION)
    rows = read_table(root, "sample_annotation")
    columns = tables.annotations
    assert columns.token.tolist() == [row["token"] for row in rows]
    assert columns.translation.tolist() == [row["translation"] for row in rows]
    assert columns.size.tolist() == [row["size"] for row in rows]
    assert columns.num_points.tolist() == [r["num_lidar_pts"] + r["num_radar_pts"] for r in rows]
    samples = read_table(root, "sample")
    assert [samples[row]["token"] for row in columns.sample] == [r["sample_token"] for r in rows]
    instances = {row["token"]: row for row in read_table(root, "instance")}
    categories = {row["token"]: row["name"] for row in read_table(root, "category")}
    expected = [categories[instances[r["instance_token"]]["category_token"]] for r in rows]
    assert columns.category.tolist() == expected
    attributes = {row["token"]: row["name"] for row in read_table(root, "attribute")}
    assert columns.attribute.tolist() == [
        attributes[r["attribute_tokens"][0]] if r["attribute_tokens"] else "" for r in rows
    ]


def test_each_keyframe_is_joined_with_its_ego_pose(root: Path) -> None:
    rows = read_table(root, "sample_data")
    rows[3]["is_key_frame"] = False
    write_tables(root, {"sample_data": rows})
    keyframes = Tables(root, VERSION).keyframes
    rows = [row for row in rows if row["is_key_frame"]]
    poses = {row["token"]: row for row in read_table(root, "ego_pose")}
    assert keyframes.token.tolist() == [row["token"] for row in rows]
    assert keyframes.filename.tolist() == [row["filename"] for row in rows]
    assert keyframes.size.tolist() == [[row["height"], row["width"]] for row in rows]
    expected = [poses[row["ego_pose_token"]]["translation"] for row in rows]
    assert keyframes.translation.tolist() == expected


def test_sweeps_are_the_readings_between_key_frames(root: Path) -> None:
    rows = read_table(root, "sample_data")
    for row in rows[2::3]:
        row["is_key_frame"] = False
    write_tables(root, {"sample_data": rows})
    tables = Tables(root, VERSION)
    assert tables.sweeps.token.tolist() == [row["token"] for row in rows[2::3]]
    assert tables.sweeps.timestamp_us.tolist() == [row["timestamp"] for row in rows[2::3]]
    assert len(tables.sweeps.token) + len(tables.keyframes.token) == len(rows)


def test_visibility_is_the_token_of_its_level(root: Path) -> None:
    levels = ["4", "", "1", "2"]
    rows = read_table(root, "sample_annotation")
    for number, row in enumerate(rows):
        row["visibility_token"] = levels[number % 4]
    write_tables(root, {"sample_annotation": rows})
    visibility = Tables(root, VERSION).annotations.visibility
    assert visibility.tolist() == [row["visibility_token"] for row in rows]


def test_samples_of_a_scene_are_in_order_of_time_whatever_their_order_in_the_file(
    root: Path,
) -> None:
    rows = read_table(root, "sample")
    write_tables(root, {"sample": rows[::-1]})
    tables = Tables(root, VERSION)
    for scene, (name, (count, _)) in enumerate(SCENES.items()):
        tokens = tables.samples.token[tables.samples_of_scene(scene)].tolist()
        assert tokens == [token("sample", name, k) for k in range(count)]


def test_annotations_of_a_sample_keep_file_order(root: Path) -> None:
    tables = Tables(root, VERSION)
    rows = read_table(root, "sample_annotation")
    for sample, name in enumerate(tables.samples.token):
        expected = [i for i, row in enumerate(rows) if row["sample_token"] == name]
        assert tables.annotations_of(sample).tolist() == expected


def test_only_the_tables_in_use_are_read(root: Path) -> None:
    for name in ("sample_annotation", "instance", "log", "map", "visibility"):
        (root / VERSION / f"{name}.json").unlink()
    tables = Tables(root, VERSION)
    assert len(tables.keyframes.token) == 4 * 7 + 3 * 5
    with pytest.raises(FileNotFoundError, match=r"table 'instance' must exist at .*instance\.json"):
        _ = tables.annotations


def test_velocity_is_the_difference_quotient_of_the_neighbours(root: Path) -> None:
    annotations = Tables(root, VERSION).annotations
    car = annotations.category == "vehicle.car"
    # 1 m and 0.25 m a sample of half a second; centred and one-sided differences agree
    np.testing.assert_allclose(annotations.velocity[car], [[2.0, 0.5]] * 7, atol=1e-6)
    single = annotations.category == "human.pedestrian.adult"  # annotated in one sample only
    assert np.isnan(annotations.velocity[single]).all()


def test_velocity_is_unknown_across_a_long_gap(root: Path) -> None:
    rows = read_table(root, "sample")
    for k in range(1, 4):
        rows[k]["timestamp"] += 1_100_000  # the first gap becomes 1.6 s, the centred one 2.1 s
    write_tables(root, {"sample": rows})
    annotations = Tables(root, VERSION).annotations
    is_car = (annotations.category == "vehicle.car") & (annotations.sample < 4)
    car = annotations.velocity[is_car]
    assert np.isnan(car[0]).all()
    np.testing.assert_allclose(car[1], [2.0 / 2.1, 0.5 / 2.1], atol=1e-6)


@pytest.mark.oracle("data_tables_against_devkit")
def test_real_tables_equal_what_the_devkit_reads(tmp_path: Path) -> None:
    shared = shared_dir()
    assert shared is not None
    root = shared / "data/nuscenes_minival"
    devkit = open_devkit(root, VERSION, tmp_path)
    tables = Tables(root, VERSION)
    assert len(tables.annotations.token) == 4514
    assert tables.samples.token.tolist() == [row["token"] for row in devkit.sample]
    for row, annotation in enumerate(devkit.sample_annotation):
        assert tables.annotations.category[row] == annotation["category_name"]
        velocity = devkit.box_velocity(annotation["token"])[:2]
        np.testing.assert_array_equal(tables.annotations.velocity[row], velocity)  # to the bit
    for sample, row in enumerate(devkit.sample):
        tokens = tables.annotations.token[tables.annotations_of(sample)].tolist()
        assert tokens == row["anns"]
        reference = tables.reference_keyframes(np.array([sample]))[0]
        assert tables.keyframes.token[reference] == row["data"]["LIDAR_TOP"]


def test_an_error_names_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"root must be an existing folder; got .*nowhere"):
        Tables(tmp_path / "nowhere", VERSION)


def test_the_error_of_a_missing_version_lists_the_existing_ones(root: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"got 'v1\.0-trainval'; versions there: v1\.0-mini"
    ):
        Tables(root, "v1.0-trainval")


def test_an_empty_version_is_not_the_root_itself(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="version must be a folder of tables"):
        Tables(root, "")


@pytest.mark.parametrize("cut", [1, 500])
def test_an_error_names_a_table_that_is_cut_off(root: Path, cut: int) -> None:
    path = root / VERSION / "scene.json"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match=r"scene\.json must be JSON; got .*cut off"):
        _ = Tables(root, VERSION).scenes


@pytest.mark.parametrize("content", ['{"token": "a"}', '["a"]', "3", '[["a", "b"]]'])
def test_a_table_of_another_structure_is_refused(root: Path, content: str) -> None:
    (root / VERSION / "scene.json").write_text(content)
    with pytest.raises(ValueError, match=r"scene\.json must be a JSON list of objects"):
        _ = Tables(root, VERSION).scenes


def test_an_error_names_a_row_without_a_field(root: Path) -> None:
    rows = read_table(root, "scene")
    del rows[1]["name"]
    write_tables(root, {"scene": rows})
    with pytest.raises(ValueError, match=r"row 1 must have the field 'name'; got token, log_token"):
        _ = Tables(root, VERSION).scenes


def test_rows_may_hold_nested_objects(root: Path) -> None:
    _change(root, "scene", "extra", {"weather": "rain"})
    assert Tables(root, VERSION).scenes.name.tolist() == list(SCENES)


@pytest.mark.parametrize(
    ("table", "field", "target"),
    [
        ("sample", "scene_token", "scene"),
        ("calibrated_sensor", "sensor_token", "sensor"),
        ("sample_data", "sample_token", "sample"),
        ("sample_data", "ego_pose_token", "ego_pose"),
        ("sample_data", "calibrated_sensor_token", "calibrated_sensor"),
        ("sample_annotation", "sample_token", "sample"),
        ("sample_annotation", "instance_token", "instance"),
        ("sample_annotation", "prev", "sample_annotation"),
        ("sample_annotation", "next", "sample_annotation"),
        ("instance", "category_token", "category"),
    ],
)
def test_the_error_of_a_dangling_token_names_table_field_and_token(
    root: Path, table: str, field: str, target: str
) -> None:
    _change(root, table, field, "feed", row=1)
    tables = Tables(root, VERSION)
    with pytest.raises(
        ValueError, match=rf"^{field} in {table}.json \(row 1, .*of {target}\.json; got 'feed'"
    ):
        _ = (tables.samples, tables.calibrated_sensors, tables.keyframes, tables.annotations)


def test_an_unknown_or_second_attribute_is_refused(root: Path) -> None:
    both = [token("attribute", "vehicle.moving"), token("attribute", "vehicle.parked")]
    for tokens in (both, ["feed"]):
        _change(root, "sample_annotation", "attribute_tokens", tokens)
        with pytest.raises(ValueError, match=r"attribute_tokens in sample_annotation\.json"):
            _ = Tables(root, VERSION).annotations


def test_an_error_names_a_duplicate_token(root: Path) -> None:
    _change(root, "sample", "token", token("sample", "scene-0103", 0), row=2)
    with pytest.raises(
        ValueError, match=r"tokens of .*sample\.json must be unique; got '[0-9a-f]+' twice"
    ):
        _ = Tables(root, VERSION).keyframes


@pytest.mark.parametrize(
    ("table", "field", "value", "message"),
    [
        ("sample_annotation", "size", [1.0, 2.0], r"must hold numbers of shape \(3,\)"),
        ("sample_annotation", "rotation", "north", r"must hold numbers of shape \(4,\)"),
        ("sample_annotation", "num_lidar_pts", 2.5, "must be a whole number; got 2.5"),
        ("ego_pose", "translation", [float("inf"), 0.0, 0.0], "must be finite"),
        ("sample_data", "filename", None, "must be a string; got None"),
        ("sample", "timestamp", "noon", "must be a whole number of 0 or more; got 'noon'"),
        ("sample_data", "timestamp", -5, "must be a whole number of 0 or more; got -5"),
        ("sample_data", "width", -80, "must be a whole number of 0 or more; got -80"),
    ],
)
def test_an_error_names_a_value_of_the_wrong_kind(
    root: Path, table: str, field: str, value: object, message: str
) -> None:
    _change(root, table, field, value, row=1)
    tables = Tables(root, VERSION)
    with pytest.raises(ValueError, match=rf"^{field} in {table}.json \(row 1, token .*{message}"):
        _ = (tables.samples, tables.keyframes, tables.annotations)


def test_the_error_of_an_unknown_scene_suggests_the_closest_name(root: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"2 scenes of v1\.0-mini.* got 'scene-0913'; the nearest names: scene-0916",
    ):
        Tables(root, VERSION).scene_rows(["scene-0103", "scene-0913"])


def test_an_error_names_a_sample_without_a_lidar_keyframe(root: Path) -> None:
    rows = [
        row
        for row in read_table(root, "sample_data")
        if row["token"] != token("reading", "scene-0103", 1, "LIDAR_TOP")
    ]
    write_tables(root, {"sample_data": rows})
    tables = Tables(root, VERSION)
    assert len(tables.reference_keyframes(np.array([0, 2]))) == 2
    with pytest.raises(
        ValueError, match=f"LIDAR_TOP .*got none for '{token('sample', 'scene-0103', 1)}'"
    ):
        tables.reference_keyframes(np.array([0, 1]))


def test_an_empty_table_gives_empty_columns(root: Path) -> None:
    write_tables(root, {"sample_annotation": []})
    tables = Tables(root, VERSION)
    assert tables.annotations.translation.shape == (0, 3)
    assert tables.annotations_of(0).tolist() == []
