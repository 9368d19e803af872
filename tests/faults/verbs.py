"""Tiny runs of the verbs that read and write files, their results and the comparison of results."""

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import torch
from safetensors.torch import load_file

from tests.datasets.traffic_view.picture_sets import write_lamps
from tests.faults.client import Ended, Server
from tests.fuzz.documents import openlane_frames
from tests.runtime.traffic_weights import write_both

CONFIG = """
from tests.small_world import with_training

CONFIG = with_training(
    num_steps=2, checkpoint_every=1, evaluate_every=2, ema_decay=0.9, schedule="cosine"
)
"""
WORLD = ("--version", "v1.0-synth", "--train-scenes", "1", "--val-scenes", "0", "--test-scenes")
WORLD += ("0", "--samples-per-scene", "2", "--image-size", "90", "160")
TIMES = {"data_s", "step_s", "elapsed_s", "memory_bytes"}  # only these may differ


@dataclasses.dataclass(frozen=True)
class Verb:
    """Verb with its arguments and the comparison of its results with those of a whole run."""

    name: str
    arguments: Callable[[Path, Path], list[str]]  # of the inputs and the folder for results
    same: Callable[[Path, Path], bool]  # of two files of one name
    kept: tuple[tuple[str, str], ...] = ()  # results and their names as inputs of later verbs
    needs: str | None = None  # module of an extra


def same_bytes(found: Path, wanted: Path) -> bool:
    """Return True if two files are equal."""
    return found.read_bytes() == wanted.read_bytes()


def same_training_file(found: Path, wanted: Path) -> bool:
    """Return True if two files of a training are equal but for measured times."""
    if found.suffix == ".jsonl":
        return lines_without_times(found) == lines_without_times(wanted)
    if found.suffix == ".safetensors":
        left, right = load_file(found), load_file(wanted)
        return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
    if found.suffix == ".png":  # its axes follow the seconds taken
        return cv2.imread(str(found)) is not None
    return same_bytes(found, wanted)


def lines_without_times(log: Path) -> list[dict[str, float]]:
    """Return the whole lines of a log of steps."""
    lines = log.read_text().split("\n")[:-1]
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def same_metrics(found: Path, wanted: Path) -> bool:
    """Return True if two files of metrics are equal but for measured times."""
    if found.suffix != ".json":
        return same_bytes(found, wanted)
    values = [json.loads(file.read_text()) for file in (found, wanted)]
    for value in values:
        value.pop("eval_time", None)
    left, right = map(json.dumps, values)  # as text, in which NaN equals NaN
    return left == right


def _data(inputs: Path) -> list[str]:
    return ["--nuscenes", str(inputs / "world"), "--version", "v1.0-synth"]


def _split(inputs: Path) -> list[str]:
    return [*_data(inputs), "--split", "synth_train"]


def _first() -> Iterator[Verb]:
    """Yield the verbs from a new world to the scores of a trained detector."""
    yield Verb(
        "make-world",
        lambda _, out: ["make-world", "--out", f"{out}/world", *WORLD],
        same_bytes,
        kept=(("world", "world"),),
    )
    yield Verb(
        "train",
        lambda inputs, out: [
            *("train", "--config", f"{inputs}/small.py", *_split(inputs)),
            *("--held-out", "synth_train", "--out", f"{out}/run", "--resume"),
        ],
        same_training_file,
        kept=(("run/model.safetensors", "model.safetensors"),),
    )
    yield Verb(
        "predict",
        lambda inputs, out: [
            *("predict", "--weights", f"{inputs}/model.safetensors", *_split(inputs)),
            *("--out", f"{out}/results.json"),
        ],
        same_bytes,
        kept=(("results.json", "results.json"),),
    )
    yield Verb(
        "evaluate",
        lambda inputs, out: [
            *("evaluate", "--results", f"{inputs}/results.json", *_split(inputs)),
            *("--out", f"{out}/metrics"),
        ],
        same_metrics,
    )


def _tracks_and_lights() -> Iterator[Verb]:
    """Yield the verbs that write and score tracks, lights and signs, and draw all."""
    yield Verb(
        "predict-cues",
        lambda inputs, out: [
            *("predict", "--weights", f"{inputs}/both.safetensors", *_split(inputs), "--track"),
            *("--tracks", f"{out}/tracks.json", "--cues", f"{out}/cues.json"),
            *("--out", f"{out}/boxes.json"),
        ],
        same_bytes,
        kept=tuple((f"{name}.json", f"{name}.json") for name in ("boxes", "tracks", "cues")),
    )
    yield Verb(
        "predict-pictures",
        lambda inputs, out: [
            *("predict", "--weights", f"{inputs}/both.safetensors"),
            *("--images", f"{inputs}/lamps", "--out", f"{out}/elements.json"),
        ],
        same_bytes,
        kept=(("elements.json", "elements.json"),),
    )
    for name, file, more in (
        ("report", "boxes", ("--report", "--groups")),
        ("tracking", "tracks", ("--tracking",)),
    ):
        yield Verb(
            f"evaluate-{name}",
            lambda inputs, out, file=file, more=more: [
                *("evaluate", "--results", f"{inputs}/{file}.json", *_split(inputs)),
                *(*more, "--draws", "5", "--out", f"{out}/metrics"),
            ],
            same_metrics,
        )
    for name, options in (
        ("openlane", lambda inputs: ["--truth", f"{inputs}/truth.json"]),
        ("traffic", lambda inputs: [*_split(inputs), "--draws", "5"]),
        ("elements", lambda inputs: ["--pictures", f"a={inputs}/lamps:yolo:lamp", "--draws", "5"]),
    ):
        file = {"openlane": "openlane", "traffic": "cues", "elements": "elements"}[name]
        yield Verb(
            f"evaluate-{name}",
            lambda inputs, out, name=name, file=file, options=options: [
                *("evaluate", f"--{name}", f"{inputs}/{file}.json", *options(inputs)),
                *("--out", f"{out}/metrics"),
            ],
            same_metrics,
        )
    yield Verb(
        "show",
        lambda inputs, out: [
            *("show", "--results", f"{inputs}/boxes.json", "--cues", f"{inputs}/cues.json"),
            *(*_data(inputs), "--max-frames", "1", "--min-score", "0", "--out", f"{out}/pictures"),
        ],
        same_bytes,
    )


def _exports() -> Iterator[Verb]:
    for name, file, needs, more in (
        ("nuscenes", "drive.json", None, ()),
        ("openlabel", "drive.json", None, ()),
        ("apollo", "drive", None, ()),
        ("autoware", "drive.mcap", "mcap_ros2", ()),
        ("vision_msgs", "drive.bag", "rosbags", ("--distro", "noetic")),
        ("osi", "drive.osi", "osi3", ()),
    ):
        yield Verb(
            f"export-{name}",
            lambda inputs, out, name=name, file=file, more=more: [
                *("export", "--format", name, "--results", f"{inputs}/boxes.json", "--track"),
                *("--cues", f"{inputs}/cues.json", *_data(inputs), *more, "--out", f"{out}/{file}"),
            ],
            same_bytes,
            needs=needs,
        )


FIRST = tuple(verb.name for verb in _first())  # these read nothing of the verbs after them
VERBS = {verb.name: verb for verb in (*_first(), *_tracks_and_lights(), *_exports())}


def installed(name: str) -> bool:
    """Return True if the extra that a verb needs is installed."""
    needs = VERBS[name].needs
    return needs is None or importlib.util.find_spec(needs) is not None


class Workplace:
    """Folder with the inputs of every verb, the results of whole runs, and folders of jobs."""

    def __init__(self, folder: Path) -> None:
        watched, scratch = folder / "watched", folder / "scratch"
        for new in (watched / "inputs", watched / "jobs", scratch):
            new.mkdir(parents=True)
        self.inputs, self.jobs = watched / "inputs", watched / "jobs"
        (self.inputs / "small.py").write_text(CONFIG)
        self.server = Server(watched, scratch)
        self._healthy: dict[str, Ended] = {}
        self._done: set[str] = set()
        self._number = 0

    def whole(self, name: str) -> Path:
        """Return the folder of the results of a run without faults.

        The first call runs the verb and all before it, which write its inputs.
        """
        names = list(VERBS)[: list(VERBS).index(name) + 1]
        for earlier in filter(installed, names):
            if earlier not in self._done:
                self._done.add(earlier)
                self._run_whole(earlier)
        return self.jobs / f"whole-{name}"

    def _run_whole(self, name: str) -> None:
        """Run a verb in the server itself, so that its children find all modules loaded."""
        if name not in FIRST and not (self.inputs / "truth.json").exists():
            self._write_more_inputs()
        out = self.jobs / f"whole-{name}"
        ended = self.server.run(self.arguments(name, out), warm=True)
        assert ended.code == 0, ended
        for result, target in VERBS[name].kept:
            place = self.inputs / target
            (shutil.copytree if (out / result).is_dir() else shutil.copy)(out / result, place)

    def _write_more_inputs(self) -> None:
        write_both(self.inputs / "both.safetensors")
        write_lamps(self.inputs / "lamps")
        for file, predicted in (("openlane", True), ("truth", False)):
            frames = json.dumps(openlane_frames(predicted=predicted))
            (self.inputs / f"{file}.json").write_text(frames)

    def arguments(self, name: str, out: Path) -> list[str]:
        """Return the command line of a verb."""
        out.mkdir(exist_ok=True)
        return VERBS[name].arguments(self.inputs, out)

    def healthy(self, name: str) -> Ended:
        """Return the end of a run without a fault, done once."""
        if name not in self._healthy:
            self.whole(name)
            self._healthy[name] = self.server.run(self.arguments(name, self.new_job()))
            assert self._healthy[name].code == 0
        return self._healthy[name]

    def new_job(self) -> Path:
        """Return a new folder for results."""
        self._number += 1
        return self.jobs / f"{self._number}"


def files_of(folder: Path) -> set[str]:
    """Return the relative paths of all files."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def differences(name: str, found: Path, wanted: Path, *, partial: bool) -> list[str]:
    """Return the paths of files that are missing, new or different.

    Args:
        name: of the verb.
        found: folder of its results.
        wanted: folder of the results of a whole run.
        partial: the run has not ended: files may be missing, and logs may end early.
    """
    left, right = files_of(found), files_of(wanted)
    wrong = [] if partial else sorted(left ^ right)
    for path in sorted(left & right):
        if partial and path.endswith(".jsonl"):
            lines = lines_without_times(found / path)
            is_same = lines == lines_without_times(wanted / path)[: len(lines)]
        else:
            is_same = VERBS[name].same(found / path, wanted / path)
        if not is_same:
            wrong.append(path)
    return wrong
