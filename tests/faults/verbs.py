"""Tiny runs of the verbs that read and write files, their results and the comparison of results."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from safetensors.torch import load_file

from tests.faults.client import Ended, Server

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
    values = [json.loads(file.read_text()) for file in (found, wanted)]
    for value in values:
        value.pop("eval_time", None)
    return values[0] == values[1]


def _data(inputs: Path) -> list[str]:
    return ["--nuscenes", str(inputs / "world"), "--version", "v1.0-synth"]


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "make-world", lambda _, out: ["make-world", "--out", f"{out}/world", *WORLD], same_bytes
        ),
        Verb(
            "train",
            lambda inputs, out: [
                *("train", "--config", f"{inputs}/small.py", *_data(inputs)),
                *("--split", "synth_train", "--held-out", "synth_train"),
                *("--out", f"{out}/run", "--resume"),
            ],
            same_training_file,
        ),
        Verb(
            "predict",
            lambda inputs, out: [
                *("predict", "--weights", f"{inputs}/model.safetensors", *_data(inputs)),
                *("--split", "synth_train", "--out", f"{out}/results.json"),
            ],
            same_bytes,
        ),
        Verb(
            "evaluate",
            lambda inputs, out: [
                *("evaluate", "--results", f"{inputs}/results.json", *_data(inputs)),
                *("--split", "synth_train", "--out", f"{out}/metrics"),
            ],
            same_metrics,
        ),
    )
}


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
        self._number = 0
        for name, result, target in (
            ("make-world", "world", "world"),
            ("train", "run/model.safetensors", "model.safetensors"),
            ("predict", "results.json", "results.json"),
            ("evaluate", None, None),
        ):
            out = self.whole(name)
            ended = self.server.run(self.arguments(name, out), warm=True)
            assert ended.code == 0, ended
            if result is not None:
                place = self.inputs / target
                (shutil.copytree if (out / result).is_dir() else shutil.copy)(out / result, place)

    def whole(self, name: str) -> Path:
        """Return the folder of the results of a run without faults."""
        return self.jobs / f"whole-{name}"

    def arguments(self, name: str, out: Path) -> list[str]:
        """Return the command line of a verb."""
        out.mkdir(exist_ok=True)
        return VERBS[name].arguments(self.inputs, out)

    def healthy(self, name: str) -> Ended:
        """Return the end of a run without a fault, done once."""
        if name not in self._healthy:
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
