"""Two tiny tasks: which picture is it, and which camera took the image; written as users would."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config import InternImageConfig, TrainingConfig
from bevstack.losses.criterion import Losses
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.weights import read_safetensors, write_safetensors
from bevstack.tasks.task import Score, Sharding
from tests.conftest import shared_dir

SIZE = 64
ROLES = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT")


def read_pictures() -> tuple[Tensor, Tensor]:
    """Return the stored ImageNet pictures (P, 3, S, S), normalised, and a class (P,) of each."""
    shared = shared_dir()
    if shared is None:
        raise FileNotFoundError(
            "pictures of ImageNet must be stored; got neither ../shared nor $BEVSTACK_SHARED"
        )
    paths = sorted((shared / "data" / "imagenet_sample").glob("*.JPEG"))
    pictures = [cv2.resize(cv2.imread(str(path)), (SIZE, SIZE)) for path in paths]
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 64 - 2
    return stacked, torch.arange(len(paths)) % 5


class Classifier(nn.Module):
    """The backbone's last map, averaged, and a linear layer."""

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.out_channels[-1], num_classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits (M, K)."""
        return self.head(maps[-1].mean((2, 3)))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A batch of pictures with their classes."""

    images: Tensor  # (B, 3, H, W)
    classes: Tensor  # (B,)
    sample_tokens: tuple[str, ...]

    @property
    def num_images(self) -> int:
        return len(self.images)

    def to(self, device) -> Pictures:
        return dataclasses.replace(
            self, images=self.images.to(device), classes=self.classes.to(device)
        )


class PictureStream:
    """Pictures in an order that is a function of the seed and the position."""

    def __init__(self, pictures, classes, recipe: TrainingConfig, group, start: int) -> None:
        self.pictures, self.classes = pictures, classes
        self.recipe, self.group, self.start = recipe, group, start
        self.epoch_length = len(pictures)
        self.skipped: list[tuple[str, str]] = []

    def __iter__(self) -> Iterator[Pictures]:
        per_pass = self.recipe.batch_size // self.recipe.accumulate
        position = self.start
        while True:
            numbers = range(position, position + per_pass)
            drawn = [self._draw(number) for number in numbers]
            chosen = drawn[self.group.rank :: self.group.world_size]
            position += per_pass
            tokens = tuple(f"picture {index}" for index in chosen)
            yield Pictures(self.pictures[chosen], self.classes[chosen], tokens)

    def _draw(self, number: int) -> int:
        epoch, place = divmod(number, self.epoch_length)
        order = np.random.default_rng((self.recipe.seed, epoch)).permutation(self.epoch_length)
        return int(order[place])


class TinyTask:
    """What both tiny tasks share (``tasks.task.Task``)."""

    name = "tiny"
    view = "picture"
    num_classes = 5
    all_parts_run = True
    headline = "accuracy"
    sharding = Sharding((), run_equally_often=True)

    def __init__(self, backbone: InternImageConfig, recipe: TrainingConfig) -> None:
        self.backbone = backbone
        self.recipe = recipe
        self.names = (self.name,)
        self.has_held_out = True

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "training": dataclasses.asdict(self.recipe)})

    def differences(self, stored: str, free: Sequence[str]) -> list[str]:
        ours, theirs = (json.loads(text)["training"] for text in (self.to_json(), stored))
        return [n for n, value in ours.items() if n not in free and theirs[n] != value]

    def build_model(self, backbone: nn.Module | None = None) -> Classifier:
        return Classifier(backbone or InternImage(self.backbone), self.num_classes)

    def read_weights(self, path: Path, *, verify: bool = True) -> Mapping[str, Tensor]:
        return read_safetensors(path, verify=verify)[0]

    def write_model(self, path, weights, metadata) -> None:
        own = {"format": "bevstack-model-1", "tasks": json.dumps(self.names)}
        write_safetensors(path, dict(weights), {**metadata, **own, "config": self.to_json()})

    def images(self, model, batch) -> Tensor:
        return batch.images

    def forward(self, model, batch, maps, *, first_stage: bool) -> Tensor:
        return model(model.backbone(self.images(model, batch)) if maps is None else maps)

    def are_finite(self, outputs: Tensor) -> Tensor:
        return outputs.isfinite().all()

    def losses(self, outputs: Tensor, batch) -> Losses:
        total = functional.cross_entropy(outputs.float(), batch.classes)
        return Losses(total, {self.name: total.detach()})


class PictureTask(TinyTask):
    """Classification of the stored pictures; its own data, its own view."""

    def make_batches(self, recipe, group, *, start: int, labels=()) -> PictureStream:
        return PictureStream(*read_pictures(), recipe, group, start)

    def evaluate(self, weights, folder, group) -> Score:
        with torch.random.fork_rng(devices=[]):
            model = self.build_model().eval()
        model.load_state_dict(dict(weights))
        pictures, classes = read_pictures()
        with torch.no_grad():
            found = model(model.backbone(pictures)).argmax(-1)
        accuracy = float((found == classes).float().mean())
        return Score({"accuracy": accuracy})


@dataclasses.dataclass(frozen=True)
class Roles:
    """Labels of some images of a detection batch."""

    rows: Tensor  # (R,) index into the (B * N) images
    classes: Tensor  # (R,)

    def to(self, device) -> Roles:
        return Roles(self.rows.to(device), self.classes.to(device))


class RoleTask(TinyTask):
    """Which camera took an image: labels for the samples of detection, on the same view.

    Every second sample has labels; the back right camera has none.
    """

    name = "role"
    view = "surround"
    task = name  # datasets.batch_stream.ClipLabels

    def prepare(self, clip, prepared) -> tuple[tuple[int, int], ...] | None:
        frame = clip.current
        if frame.timestamp_us // 500_000 % 2:
            return None
        names = enumerate(frame.camera_names)
        return tuple((i, ROLES.index(name)) for i, name in names if name in ROLES)

    def stack(self, labels) -> Roles | None:
        rows = [
            (sample * 6 + place, role)
            for sample, found in enumerate(labels)
            for place, role in found or ()
        ]
        if not rows:
            return None
        places, roles = zip(*rows, strict=True)
        return Roles(torch.tensor(places), torch.tensor(roles))

    def make_batches(self, recipe, group, *, start: int, labels=()):
        raise TypeError("this task has no samples of its own")

    def losses(self, outputs: Tensor, batch: Roles) -> Losses:
        total = functional.cross_entropy(outputs[batch.rows].float(), batch.classes)
        return Losses(total, {self.name: total.detach()})

    def evaluate(self, weights, folder, group) -> Score:
        return Score({"accuracy": 0.0})  # measured nowhere: the tests look at its losses
