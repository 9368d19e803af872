"""Every command and program of README and docs runs, in the order of its page, in a fresh folder.

A block marked `sh slow` runs in `make test-all`. A block marked `sh elsewhere` changes the
installation, or takes long; another test runs the same command (`ELSEWHERE`). `make` runs as a dry
run: it runs the tests themselves.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bevstack.cli.main import main
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, write_traffic_frames
from bevstack.runtime.commands import MANOEUVRES_FORMAT
from bevstack.runtime.rig import read_rig
from bevstack.synthetic import WorldSpec, make_world
from tests.conftest import shared_dir
from tests.docs.deploy_lines import DEPLOY_LINES
from tests.docs.health_lines import HEALTH_LINES
from tests.docs.label_lines import LABEL_LINES
from tests.docs.lights_lines import LIGHTS_LINES
from tests.docs.pages import HISTORY, PAGES, Block, blocks_of
from tests.docs.picture_files import write_detector
from tests.docs.viewer_lines import VIEWER_LINES
from tests.fuzz.documents import openlane_frames
from tests.runtime.drives import write_table, write_video
from tests.runtime.traffic_weights import write_both
from tests.small_world import build_once
from tests.sources import ROOT

RUNNABLE = [page for page in PAGES if not page.is_relative_to(HISTORY)]
COPIED = ("benchmarks", "configs", "data", "docs", "tools", "visualize", "weights")
LANGUAGES = {"sh", "python", "json", "console", ""}
MARKS = {"", "slow", "elsewhere"}
RUN_NODE = "bevstack node --weights tiny_cpu_t4 --dds --set use_sim_time=true"
PLAY_BAG = "bevstack play-bag --bag drive.mcap"
RUN_ROS1_NODE = "bevstack node --weights tiny_cpu_t4 --rospy --set use_sim_time=true"
FIND_ROSPY = (
    "echo /usr/lib/python3/dist-packages > "
    '"$(python -c \'import sysconfig; print(sysconfig.get_path("purelib"))\')/rospy.pth"'
)
INSTALL_ROSPY = "sudo apt install python3-rospy python3-rosbag python3-rosmaster"
# Lines of `sh elsewhere` blocks, and the tests that run the same.
OBJECTS = "tests/cli/test_picture_tasks.py"
RCLPY = "tests/cli/test_node_rclpy.py"
ELSEWHERE = {
    **LABEL_LINES,
    (
        "bevstack convert-weights upernet_internimage_t_512_160k_ade20k.pth "
        "--config upernet_internimage_t_512_ade20k --out labeller.safetensors"
    ): "tests/interop/test_segmentation.py",
    (
        "bevstack convert-weights mask_rcnn_internimage_t_fpn_1x_coco.pth "
        "--config mask_rcnn_internimage_t_1x --out detector.safetensors"
    ): "tests/interop/test_detection2d.py",
    "bevstack predict --weights detector.safetensors --images pictures --out objects.json": OBJECTS,
    "bevstack evaluate --coco coco --split val2017 --results objects.json": OBJECTS,
    (
        "bevstack train --config mask_rcnn_internimage_t_1x --coco coco --split train2017 "
        "--held-out val2017 --out runs/t"
    ): OBJECTS,
    "python -m benchmarks.run forward --config bevformerv2_internimage_xl_t1 --lines": (
        "tests/benchmarks/test_forward.py"
    ),
    **HEALTH_LINES,
    RUN_NODE: "tests/cli/test_node_dds.py",
    PLAY_BAG: "tests/cli/test_node_dds.py",
    "ros2 launch ros/bevstack_launch.py weights:=tiny_cpu_t4": "tests/runtime/ros/test_share.py",
    RUN_ROS1_NODE: "tests/ros_peers/test_ros1.py",
    "bevstack node --weights tiny_cpu_t4 --rclpy --set use_sim_time=true": RCLPY,
    "ros2 bag play drive.mcap --clock": RCLPY,
    "rosbag play --clock drive.bag": "tests/ros_peers/test_ros1.py",
    "rosmaster --core &": "tests/ros_peers/test_ros1.py",
    INSTALL_ROSPY: "tests/ros_peers/install.sh",
    FIND_ROSPY: "tests/ros_peers/install.sh",
    **LIGHTS_LINES,
    "python -m benchmarks.run official --source InternImage/classification --seconds 40 "
    "--json official.json": "tests/benchmarks/test_official.py",
    "python -m benchmarks.run detection2d --source InternImage/detection --json detection2d.json": (
        "tests/benchmarks/test_mask_rcnn_peer.py"
    ),
    **DEPLOY_LINES,
    "bevstack benchmark --json speed.json": "tests/experiments/benchmark/test_benchmark.py",
    "bevstack benchmark --markdown speed.json": "tests/experiments/benchmark/test_benchmark.py",
    "pip install torch 'setuptools>=77.0.3' ninja": "Makefile",
    "pip install --no-build-isolation '.[nuscenes]'": "tests/test_packaging.py",
    **VIEWER_LINES,
    "bevstack convert-weights work_dirs/tiny/iter_2.pth --out ours.safetensors "
    "--config tiny_cpu": "tests/interop/test_adapter_weights.py",
    "bevstack build-ops": "tests/cli/test_build_ops.py",
    "bevstack doctor": "tests/cli/test_doctor.py",
    "python tools/overfit.py --out overfit": "tests/cli/test_train_demo.py",
}
NEED_SHARED = {"adding_a_task.md"}
MINI = WorldSpec(
    version="v1.0-mini", train_scenes=8, val_scenes=2, test_scenes=0, samples_per_scene=2
)
# What the pages call by a name: the fixtures of one camera rig and of a stream.
PRELUDE = """
from bevstack.runtime.rig import frame_from_rig, read_rig
frame = frame_from_rig(read_rig("rig.json"), "images")
images, intrinsics, ego_from_cam = frame.images, frame.intrinsics, frame.ego_from_cam
import dataclasses, numpy as np
frames = [
    dataclasses.replace(frame, timestamp_us=500_000 * i, world_from_ego=np.eye(4)) for i in range(2)
]
"""
MAKE = 'make() { command make --no-print-directory -n -C "$REPOSITORY" "$@" > /dev/null; }\n'


def runs(page: Path, *, slow: bool) -> list[Block]:
    """Return the blocks of a page that a fast or a slow run executes, in order."""
    blocks = [b for b in blocks_of(page.read_text("utf-8")) if b.language in {"sh", "python"}]
    marks = {"", "slow"} if slow else {""}
    return [block for block in blocks if block.mark in marks]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages take for granted: a data set, its archive, results, a rig."""
    return build_once(tmp_path_factory, "pages", _prepare)


def _prepare(folder: Path) -> None:
    make_world(folder / "nuscenes", MINI)
    (folder / "archives").mkdir()
    with tarfile.open(folder / "archives" / "v1.0-mini.tgz", "w:gz") as archive:
        for path in sorted((folder / "nuscenes").iterdir()):
            archive.add(path, path.name)
    shutil.copy(ROOT / "docs" / "rig_example.json", folder / "rig.json")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for camera in read_rig(folder / "rig.json").cameras:
        height, width = camera.image_size
        picture = rng.integers(0, 255, (height // 50, width // 50, 3), dtype=np.uint8)
        picture = cv2.resize(picture, (width, height))
        cv2.imwrite(str(folder / "images" / (camera.image or f"{camera.name}.jpg")), picture)
    _prepare_drives(folder)
    for name, predicted in (("openlane_truth.json", False), ("openlane_results.json", True)):
        (folder / name).write_text(json.dumps(openlane_frames(predicted=predicted)))
    samples = json.loads((folder / "nuscenes" / "v1.0-mini" / "sample.json").read_text())
    frames = [
        TrafficFrame(timestamp_us=s["timestamp"], cameras=("CAM_FRONT",), sample_token=s["token"])
        for s in samples
    ]
    for name in ("elements.json", "other_elements.json"):
        write_traffic_frames(folder / name, frames, {})
    data = ("--nuscenes", "nuscenes", "--version", "v1.0-mini", "--split", "mini_val")
    for name, options in (("results.json", ()), ("other.json", ("--track",))):
        command = ["-m", "bevstack", "predict", "--weights", "tiny_cpu_t4", *data, *options]
        subprocess.run([sys.executable, *command, "--out", name], cwd=folder, check=True)


def _prepare_drives(folder: Path) -> None:
    """Make a drive of two frames out of the images: as pictures with poses, and as videos."""
    times_us = (1_700_000_000_000_000, 1_700_000_000_500_000)
    videos = {}
    (folder / "videos").mkdir()
    for camera in read_rig(folder / "rig.json").cameras:
        picture = folder / "images" / (camera.image or f"{camera.name}.jpg")
        (folder / "drive" / camera.name).mkdir(parents=True)
        for number, time_us in enumerate(times_us):  # the same content twice would be frozen
            shifted = np.roll(cv2.imread(str(picture)), 8 * number, axis=1)
            cv2.imwrite(str(folder / "drive" / camera.name / f"{time_us}.jpg"), shifted)
        pictures = [cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)] * 2
        write_video(folder / "videos" / f"{camera.name}.mp4", pictures, 2.0)
        videos[camera.name] = {"file": f"{camera.name}.mp4", "start_us": times_us[0], "fps": 2.0}
    poses = [{"rotation_wxyz": [1, 0, 0, 0], "translation_m": [4 * i, 0, 0]} for i in range(2)]
    pairs = zip(times_us, poses, strict=True)
    frames = [{"timestamp_us": time_us, "world_from_ego": pose} for time_us, pose in pairs]
    write_table(folder / "drive", frames)
    write_table(folder / "videos", None, videos=videos)
    commands = zip(times_us, ("straight", "left"), strict=True)
    entries = [{"timestamp_us": time_us, "manoeuvre": name} for time_us, name in commands]
    route = {"format": MANOEUVRES_FORMAT, "manoeuvres": entries}
    (folder / "manoeuvres.json").write_text(json.dumps(route))
    write_both(folder / "traffic.safetensors")
    write_detector(folder / "detector.safetensors")


@pytest.fixture
def workplace(prepared: Path, tmp_path: Path) -> Path:
    """A fresh folder for one page: the prepared files and the programs of the checkout."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "results", "nuscenes", "synthetic")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path


def execute(page: Path, blocks: list[Block], folder: Path) -> None:
    """Run blocks one after the other in a folder; Python blocks of a page share one program.

    Plain commands of bevstack and Python blocks run in this process, without importing torch again.
    """
    names: dict[str, Any] = {"__name__": "page"}
    if any(block.language == "python" for block in blocks):
        with inside(folder):
            exec(PRELUDE, names)
    for block in blocks:
        where = f"{page.relative_to(ROOT)}:{block.line}"
        try:
            with inside(folder):
                if block.language == "python":
                    exec(block.code, names)
                else:
                    run_commands(block.code)
        except Exception as error:
            raise AssertionError(f"{where}\n{error}") from error


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Make a folder the current one; ``contextlib.chdir`` needs Python 3.11."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run_commands(code: str) -> None:
    """Run a shell block: each plain ``bevstack`` command in this process, the rest in a shell."""
    for part in commands(code):
        output = run_here(part) if is_plain(part) else run_shell(part)
        assert output is None, f"{part}\n{output}"


def commands(code: str) -> list[str]:
    """Split a shell block into plain ``bevstack`` commands and the shell code between them."""
    parts: list[str] = []
    for line in code.replace("\\\n", " ").splitlines(keepends=True):
        if parts and not is_plain(line) and not is_plain(parts[-1]):
            parts[-1] += line
        else:
            parts.append(line)
    return parts


def is_plain(line: str) -> bool:
    """Return True if a line needs no shell: only ``bevstack`` and its arguments."""
    return line.startswith("bevstack ") and not set(line) & set("|&;<>$`*?(){}[]#~")


def run_here(command: str) -> str | None:
    """Run a ``bevstack`` command in this process; return the end of its output if it fails."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            code = main(shlex.split(command)[1:])
        except SystemExit as error:  # of argparse
            code = 1 if error.code else 0
    return None if code == 0 else output.getvalue()[-3000:]


def run_shell(code: str) -> str | None:
    """Run shell code in a process of its own; return the end of its output if it fails."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "REPOSITORY": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["bash", "-euo", "pipefail", "-c", MAKE + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stdout[-1500:] + done.stderr[-1500:]


FAST = [page for page in RUNNABLE if runs(page, slow=False)]
SLOW = [page for page in RUNNABLE if runs(page, slow=True) != runs(page, slow=False)]


@pytest.mark.parametrize("page", FAST, ids=[p.relative_to(ROOT).as_posix() for p in FAST])
def test_the_blocks_of_a_page_run(page: Path, workplace: Path) -> None:
    if page.name in NEED_SHARED and shared_dir() is None:
        pytest.skip("no stored pictures: neither ../shared nor $BEVSTACK_SHARED")
    execute(page, runs(page, slow=False), workplace)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=[p.relative_to(ROOT).as_posix() for p in SLOW])
def test_the_slow_blocks_of_a_page_run(page: Path, workplace: Path) -> None:
    execute(page, runs(page, slow=True), workplace)


def test_plain_commands_are_split_from_shell_code() -> None:
    code = "bevstack doctor \\\n --help\nA=1 bevstack x\necho\nbevstack a > b\nbevstack c\n"
    assert commands(code) == [
        "bevstack doctor   --help\n",
        "A=1 bevstack x\necho\nbevstack a > b\n",
        "bevstack c\n",
    ]


def test_a_command_that_fails_is_found(tmp_path: Path) -> None:
    (block,) = blocks_of("text\n```sh\nbevstack no-such-verb\n```\n")
    with pytest.raises(AssertionError, match=r"README\.md:2\n(.*\n)*.*no-such-verb"):
        execute(ROOT / "README.md", [block], tmp_path)
    (block,) = blocks_of("```sh\nmake no-such-target\n```\n")
    with pytest.raises(AssertionError, match="no-such-target"):
        execute(ROOT / "README.md", [block], tmp_path)


def test_every_block_has_a_known_language_and_mark() -> None:
    for page in RUNNABLE:
        for block in blocks_of(page.read_text("utf-8")):
            where = f"{page.relative_to(ROOT)}:{block.line}"
            assert block.language in LANGUAGES and block.mark in MARKS, where
            known = block.language in {"sh", "python"} or not re.search(
                r"^\s*(bevstack|python|make|torchrun|pip) ", block.code, flags=re.MULTILINE
            )
            assert known, f"{where}: a command outside a `sh` block is not run"


def test_commands_that_run_elsewhere_are_listed_with_an_existing_file() -> None:
    lines = {
        line
        for page in RUNNABLE
        for block in blocks_of(page.read_text("utf-8"))
        if block.mark == "elsewhere"
        for line in block.code.splitlines()
    }
    assert lines == set(ELSEWHERE)
    assert all((ROOT / name).is_file() for name in ELSEWHERE.values())
