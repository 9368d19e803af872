"""The table of readers that are fuzzed; add a reader here.

A reader has valid files to start from, a mutation, and a function that reads a mutated file. The
kind states which JSON documents may be accepted; it is written from the format's description, not
from the reader's code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bevstack.config import config_from_json, config_to_json, load_config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.readiness.file_checks import check_official
from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
from bevstack.evaluation.results.submission import read_submission
from bevstack.evaluation.tracking.track_file import read_tracks, write_tracks
from bevstack.evaluation.traffic.openlane_file import read_openlane_frames
from bevstack.evaluation.traffic.openlane_score import score_openlane
from bevstack.evaluation.traffic.traffic_frames import read_traffic_frames, write_traffic_frames
from bevstack.experiments.finished import read_finished_file
from bevstack.experiments.judge.turned_world import world_spec
from bevstack.experiments.study.study import add_time, read_plan
from bevstack.runtime.detections_file import read_detections
from bevstack.runtime.frame_detections_file import read_frame_detections
from bevstack.runtime.frames_table import read_frames_table
from bevstack.runtime.rig import frame_from_rig, read_rig
from bevstack.synthetic import WorldSpec
from bevstack.synthetic.spec import GENERATOR_VERSION
from bevstack.synthetic.world import MANIFEST
from bevstack.tables.reader import Tables
from bevstack.tables.splits import scenes_of_split
from bevstack.tables.traffic_elements import read_lanes, read_traffic_elements
from bevstack.tables.traffic_states import read_ego_lanes, read_timelines
from bevstack.training.jsonl import read_jsonl
from tests.evaluation.traffic import traffic_samples
from tests.fuzz import documents, kinds, mutations, table_kinds
from tests.fuzz.binary_readers import BINARY_READERS
from tests.fuzz.label_readers import LABEL_READERS
from tests.fuzz.map_readers import MAP_READERS
from tests.fuzz.mutations import Draw
from tests.fuzz.reader import Reader, start_with, write_file
from tests.tables.tiny_root import VERSION, write_tiny_root


def _read_rig(folder: Path, content: Any) -> None:
    rig = read_rig(write_file(folder / "rig.json", content))
    sizes = {camera.name: camera.image_size for camera in rig.cameras}
    if sum(height * width for height, width in sizes.values()) > 100_000:
        return
    images = {name: np.zeros((*size, 3), np.uint8) for name, size in sizes.items()}
    frame_from_rig(rig, images)


def _read_detections(folder: Path, content: Any) -> None:
    read_detections(write_file(folder / "boxes.json", content))


def _read_frame_detections(folder: Path, content: Any) -> None:
    """Read the boxes of many frames, with one frame a line where the document allows it."""
    path = write_file(folder / "drive.json", content)
    if isinstance(content, dict) and isinstance(content.get("frames"), list) and len(content) > 1:
        head = json.dumps({key: value for key, value in content.items() if key != "frames"})
        frames = ",\n".join(map(json.dumps, content["frames"]))
        path.write_text(f'{head[:-1]}, "frames": [\n{frames}{chr(10) * bool(frames)}]}}\n')
    for _ in read_frame_detections(path)[0]:
        pass


def _read_frame_table(folder: Path, content: Any) -> None:
    read_frames_table(write_file(folder / "frames.json", content), ("front", "rear"))


def _read_results(folder: Path, content: Any, *, strict: bool) -> None:
    submission = read_submission(write_file(folder / "results.json", content), strict=strict)
    if strict:
        return
    for token in submission.sample_tokens:
        submission.select_sample(token).detections(torch.eye(4, dtype=torch.float64))


def _read_tracks(folder: Path, content: Any) -> None:
    path = write_file(folder / "tracks.json", content)
    submission = read_tracks(path)
    if isinstance(content, dict):
        write_tracks(path, content["results"], submission.meta)
        assert len(read_tracks(path).boxes) == len(submission.boxes)


def _start_root(folder: Path) -> Sequence[Any]:
    write_tiny_root(folder / "root")
    return []


def _start_splits(folder: Path) -> Sequence[Any]:
    _start_root(folder)
    return [{"a": ["scene-0103"], "b": ["scene-0103", "scene-0916"]}]


def _read_splits(folder: Path, content: Any) -> None:
    write_file(folder / "root" / VERSION / "splits.json", content)
    tables = Tables(folder / "root", VERSION)
    for name in ("a", "b"):
        scenes_of_split(tables, name)


def _start_tables(folder: Path) -> Sequence[Any]:
    _start_root(folder)
    tables = sorted((folder / "root" / VERSION).glob("*.json"))
    return [{"table": path.stem, "rows": json.loads(path.read_text())} for path in tables]


def _mutate_rows(document: Any, draw: Draw) -> Any:
    return {"table": document["table"], "rows": mutations.mutate_json(document["rows"], draw)}


def _read_tables(folder: Path, content: Any) -> None:
    path = folder / "root" / VERSION / f"{content['table']}.json"
    before = path.read_bytes()
    try:
        write_file(path, content["rows"])
        tables = Tables(folder / "root", VERSION)
        dataset = NuScenesDataset(tables, scenes=["scene-0103", "scene-0916"])
        for index in (0, len(dataset) - 1):
            dataset.frame(index, load_images=False, camera_annotations=True)
        ground_truth(tables, samples_of_split(tables, "mini_val"))
    finally:
        path.write_bytes(before)


def _read_traffic(folder: Path, content: Any) -> None:
    tables = content if isinstance(content, dict) else {"traffic_element": content}
    for name in ("traffic_element", "lane"):
        write_file(folder / f"{name}.json", tables.get(name))
    read_traffic_elements(folder)
    read_lanes(folder)


def _read_rich_traffic(folder: Path, content: Any) -> None:
    tables = content if isinstance(content, dict) else {"traffic_state": content}
    for name in ("traffic_element", "lane", "traffic_state", "ego_lane"):
        write_file(folder / f"{name}.json", tables.get(name))
    lanes = read_lanes(folder)
    read_traffic_elements(folder, lanes=lanes, image_size=(900, 1600))
    read_timelines(folder)
    read_ego_lanes(folder, lanes=lanes)


def _read_openlane(folder: Path, content: Any, *, predicted: bool) -> None:
    frames = read_openlane_frames(write_file(folder / "f.json", content), predicted=predicted)
    if frames:
        score_openlane(frames, frames)


def _start_traffic_frames(folder: Path) -> Sequence[Any]:
    rng = np.random.default_rng(0)
    frames = [traffic_samples.frame(rng, number, with_optional=number == 1) for number in (1, 2)]
    write_traffic_frames(folder / "t.json", frames, {"weights": "w"})
    return [json.loads((folder / "t.json").read_text())]


def _read_traffic_frames(folder: Path, content: Any) -> None:
    frames = read_traffic_frames(write_file(folder / "t.json", content))
    write_traffic_frames(folder / "t.json", frames.frames, frames.meta)


def _read_config(folder: Path, content: Any) -> None:
    config = config_from_json(json.dumps(content))
    text = config_to_json(config)
    assert config_from_json(text) == config
    fault = kinds.difference("config", content, json.loads(text))
    assert not fault, fault


def _read_log(folder: Path, content: Any) -> None:
    lines = content if isinstance(content, list) else [content]
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    read_jsonl(folder / "log.jsonl")


def _read_finished(folder: Path, content: Any) -> None:
    if not isinstance(content, dict):
        content = {"row": content}
    write_file(folder / MANIFEST, content.get("manifest", {}))
    reads = (
        lambda: read_finished_file(folder / "row.json", "found", ("NDS", "mAP")),
        lambda: read_plan(folder / "plan.json"),
        lambda: add_time(folder / "time.json", 1.0),
        lambda: world_spec(folder),
    )
    for name in ("row", "plan", "time"):
        write_file(folder / f"{name}.json", content.get(name))
    for read in reads:
        read()


def _read_manifest(folder: Path, content: Any) -> None:
    check_official(folder, write_file(folder / "official.json", content))


def _config_starts(folder: Path) -> Sequence[Any]:
    names = ("tiny_cpu", "tiny_cpu_t4", "bevformerv2_r50_t1")
    return [json.loads(config_to_json(load_config(name))) for name in names]


_json = mutations.mutate_json
_json_with_nan = partial(mutations.mutate_json, nan=True)

READERS = (
    Reader(
        name="rig",
        start=lambda folder: documents.rigs(),
        mutate=_json_with_nan,
        read=_read_rig,
        kind=kinds.RIG,
    ),
    Reader(
        name="detections",
        start=start_with(documents.detections()),
        mutate=_json_with_nan,
        read=_read_detections,
        kind=kinds.DETECTIONS,
    ),
    Reader(
        name="frame_detections",
        start=start_with(documents.frame_detections()),
        mutate=_json_with_nan,
        read=_read_frame_detections,
        kind=kinds.FRAME_DETECTIONS,
    ),
    Reader(
        name="frame_tables",
        start=start_with(*documents.frame_tables()),
        mutate=_json_with_nan,
        read=_read_frame_table,
        kind=kinds.FRAME_TABLE,
    ),
    Reader(
        name="results",
        start=start_with(documents.results()),
        mutate=_json_with_nan,
        read=partial(_read_results, strict=False),
        kind=kinds.RESULTS,
    ),
    Reader(
        name="results_strict",
        start=start_with(documents.results()),
        mutate=_json_with_nan,
        read=partial(_read_results, strict=True),
        kind=kinds.devkit_accepts,
    ),
    Reader(
        name="tracks",
        start=start_with(documents.tracks()),
        mutate=_json_with_nan,
        read=_read_tracks,
        kind=kinds.TRACKS,
    ),
    Reader(name="splits", start=_start_splits, mutate=_json, read=_read_splits, kind=kinds.SPLITS),
    Reader(
        name="tables",
        start=_start_tables,
        mutate=_mutate_rows,
        read=_read_tables,
        kind=table_kinds.table,
    ),
    Reader(
        name="traffic_elements",
        start=start_with(documents.traffic_elements()),
        mutate=_json,
        read=_read_traffic,
        kind=kinds.TRAFFIC_ELEMENTS,
    ),
    *(
        Reader(
            name=f"openlane_{name}",
            start=start_with(documents.openlane_frames(predicted=predicted)),
            mutate=_json_with_nan,
            read=partial(_read_openlane, predicted=predicted),
            kind=kinds.openlane_frames(predicted=predicted),
        )
        for name, predicted in (("truth", False), ("results", True))
    ),
    Reader(
        name="traffic_frames",
        start=_start_traffic_frames,
        mutate=_json_with_nan,
        read=_read_traffic_frames,
        kind=kinds.traffic_frames,
    ),
    Reader(
        name="rich_traffic",
        start=start_with(documents.rich_traffic()),
        mutate=_json,
        read=_read_rich_traffic,
        kind=kinds.RICH_TRAFFIC,
    ),
    Reader(name="config", start=_config_starts, mutate=_json_with_nan, read=_read_config),
    Reader(
        name="logs", start=start_with(documents.log()), mutate=_json, read=_read_log, kind=kinds.log
    ),
    Reader(
        name="finished_figures",
        start=start_with(documents.finished(GENERATOR_VERSION, WorldSpec().to_json())),
        mutate=_json,
        read=_read_finished,
        kind=table_kinds.FINISHED,
    ),
    Reader(
        name="official_manifest",
        start=start_with({"a.jpg": ["0" * 64, 3], "b/c.jpg": ["1" * 64, 0]}),
        mutate=_json,
        read=_read_manifest,
        kind=kinds.MANIFEST,
    ),
    *BINARY_READERS,
    *LABEL_READERS,
    *MAP_READERS,
)
