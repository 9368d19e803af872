"""Several tasks on one backbone, trained in one step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bevstack.config import TrainingConfig
from bevstack.json_files import expect_object, parse_json
from bevstack.losses.criterion import Losses
from bevstack.models.build import CONFIG_KEY, FORMAT, FORMAT_KEY, TASKS_KEY, list_tasks
from bevstack.models.weights import (
    joint_name,
    read_weights_file,
    task_weights,
    write_safetensors,
)
from bevstack.tasks.joint_batches import JointBatch, JointBatches, first_members
from bevstack.tasks.joint_model import JointModel
from bevstack.tasks.task import Batches, ProcessGroup, Score, Sharding, Task


@dataclass(frozen=True, kw_only=True)
class JointPart:
    """One task of a joint training.

    A task either brings samples of its own, or has labels for the samples of another task
    (``same_samples_as``); then it implements ``datasets.batch_stream.ClipLabels`` too.
    """

    task: Task
    weight: float = 1.0  # of its loss
    # of a step, over all processes, without ``same_samples_as``; 0: the task keeps its weights
    num_samples: int = 1
    same_samples_as: str | None = None  # name of the other task

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be positive; got {self.weight}")
        if self.num_samples < 0:
            raise ValueError(f"num_samples must be at least 0; got {self.num_samples}")

    @property
    def name(self) -> str:
        """Return the task's name."""
        return self.task.names[0]


class JointOutputs(NamedTuple):
    """Outputs of the tasks that have samples or labels in a pass."""

    outputs: Mapping[str, Any]  # by task
    labels: Mapping[str, Any]  # what each is compared with
    zero: Tensor  # () with a gradient of zero, for a pass without any task


class JointTask:
    """Several tasks that share a backbone; ``tasks.task.Task`` describes the members.

    The first task builds the backbone. In every pass each task that has samples or labels computes
    its loss; the backbone runs once for each set of images. The loss is the weighted sum over the
    tasks, its terms are one a task, and a task without samples or labels in this process adds
    nothing. The model with the highest headline figure of the first task with held-out samples is
    the best.

    Args:
        parts: the tasks, with distinct names.
        recipe: steps, optimiser and schedule. Its batch size is the sum of ``num_samples``.

    Raises:
        ValueError: no task, equal names, ``same_samples_as`` names no task with samples, or another
            batch size, or sharding, which needs all tasks in every process.
    """

    def __init__(self, parts: Sequence[JointPart], recipe: TrainingConfig) -> None:
        self.parts = {part.name: part for part in parts}
        self.recipe = recipe
        # A task alone with its view runs the stages of the backbone that it needs.
        self._shared = Counter(part.task.view for part in parts)
        self._check(parts)
        self.names = tuple(self.parts)
        first = next((part for part in parts if part.task.has_held_out), parts[0])
        self.headline = f"{first.name}/{first.task.headline}"
        self.has_held_out = first.task.has_held_out
        self.sharding = Sharding((), run_equally_often=False)
        self.view = parts[0].task.view
        self.all_parts_run = False

    def _check(self, parts: Sequence[JointPart]) -> None:
        if not parts or len(self.parts) != len(parts):
            raise ValueError(
                f"parts must be tasks of distinct names; got {[p.name for p in parts]}"
            )
        owners = {name for name, part in self.parts.items() if part.same_samples_as is None}
        for name, part in self.parts.items():
            if part.same_samples_as is not None and part.same_samples_as not in owners:
                raise ValueError(
                    f"same_samples_as of {name} must name a task with samples of its own, "
                    f"{sorted(owners)}; got {part.same_samples_as!r}"
                )
        if self.recipe.engine != "ddp":
            raise ValueError(
                "training.engine must be 'ddp' for several tasks, as a process may have no samples "
                f"of one; got {self.recipe.engine!r}"
            )
        total = sum(self.parts[name].num_samples for name in owners)
        if self.recipe.batch_size != total:
            raise ValueError(
                f"training.batch_size must be the sum of num_samples, {total}; got "
                f"{self.recipe.batch_size}"
            )

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        tasks = {
            name: {
                "task": json.loads(part.task.to_json()),
                "weight": part.weight,
                "num_samples": part.num_samples,
                "same_samples_as": part.same_samples_as,
            }
            for name, part in self.parts.items()
        }
        return json.dumps({"tasks": tasks, "training": asdict(self.recipe)}, sort_keys=True)

    def differences(self, stored: str, free: Sequence[str]) -> list[str]:
        """Return how a stored ``to_json`` differs."""
        ours = json.loads(self.to_json())
        theirs = expect_object("stored configuration", parse_json(stored, "stored configuration"))
        for values in (ours, theirs):
            for name in free:
                values.get("training", {}).pop(name, None)
        return list(_differing("", ours, theirs))[:3]

    def build_model(self, backbone: nn.Module | None = None) -> JointModel:
        """Build the model."""
        models: dict[str, nn.Module] = {}
        for name, part in self.parts.items():
            models[name] = part.task.build_model(backbone)
            backbone = models[name].backbone  # type: ignore[assignment]  # Task: a module
        assert isinstance(backbone, nn.Module)
        return JointModel(backbone, models)

    def read_weights(self, path: Path, *, verify: bool = True) -> Mapping[str, Tensor]:
        """Read initial weights; tasks that the file does not have start from the seed."""
        _, tensors, metadata = read_weights_file(path, verify=verify)
        found = list_tasks(path, metadata)
        if found == self.names:
            return tensors
        if not set(found) < set(self.names):
            raise ValueError(f"weights must be of the tasks {self.names}; got {path} of {found}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            weights: dict[str, Tensor] = self.build_model().state_dict()
        for name in found:
            stored = self.parts[name].task.read_weights(path, verify=verify)
            weights |= {joint_name(name, key): value for key, value in stored.items()}
        return weights

    def write_model(
        self, path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> None:
        """Write one file with the configuration of every task."""
        own = {FORMAT_KEY: FORMAT, CONFIG_KEY: self.to_json(), TASKS_KEY: json.dumps(self.names)}
        write_safetensors(path, dict(weights), {**metadata, **own})

    def make_batches(
        self, recipe: TrainingConfig, group: ProcessGroup, *, start: int, labels: Sequence[Any] = ()
    ) -> JointBatches:
        """Build the streams of all tasks that bring samples."""
        steps_done = start // recipe.batch_size
        streams: dict[str, Batches | None] = {}
        scales: dict[str, float] = {}
        for name, part in self.parts.items():
            if part.same_samples_as is not None or not part.num_samples:
                continue
            members = first_members(part.num_samples // recipe.accumulate, group)
            scales[name] = group.world_size / members.world_size
            streams[name] = None
            if members.rank < members.world_size:
                own = replace(recipe, batch_size=part.num_samples)
                first = steps_done * part.num_samples
                further = [p.task for p in self.parts.values() if p.same_samples_as == name]
                streams[name] = part.task.make_batches(own, members, start=first, labels=further)
        return JointBatches(streams, scales)

    def images(self, model: nn.Module, batch: JointBatch) -> Tensor:
        """Refuse, because several tasks see several sets of images."""
        raise TypeError("images must be asked of one of the tasks; got a joint task")

    def forward(
        self,
        model: nn.Module,
        batch: JointBatch,
        maps: Sequence[Tensor] | None = None,
        *,
        first_stage: bool,
    ) -> JointOutputs:
        """Run the models; the backbone runs once for each view of a batch's images."""
        assert isinstance(model, JointModel)
        outputs: dict[str, Any] = {}
        labels: dict[str, Any] = {}
        for owner, samples in batch.parts.items():
            views: dict[str, Sequence[Tensor]] = {}
            for name, part in self.parts.items():
                given = _labels_of(part, owner, samples)
                if given is None:
                    continue
                view, network = part.task.view, model.tasks[name]
                if view not in views and self._shared[view] > 1:
                    views[view] = model.backbone(part.task.images(network, given))
                labels[name] = given
                outputs[name] = part.task.forward(
                    network, given, views.get(view), first_stage=first_stage
                )
        return JointOutputs(outputs, labels, next(model.parameters()).sum() * 0)

    def are_finite(self, outputs: JointOutputs) -> Tensor:
        """Return True if the outputs can be scored."""
        found = [self.parts[n].task.are_finite(out) for n, out in outputs.outputs.items()]
        flags = [flag for flag in found if flag is not None]
        return torch.stack([torch.ones_like(outputs.zero, dtype=torch.bool), *flags]).all()

    def losses(self, outputs: JointOutputs, batch: JointBatch) -> Losses:
        """Compute one term a task, 0 for a task without samples or labels here."""
        terms = {name: torch.zeros_like(outputs.zero.detach()) for name in self.parts}
        spreads: dict[str, Tensor] = {}
        # An optimiser shrinks a parameter of gradient 0, so a loss does without that zero.
        total = outputs.zero.detach() if outputs.outputs else outputs.zero
        for name, found in outputs.outputs.items():
            part = self.parts[name]
            factor = part.weight * batch.scales[part.same_samples_as or name]
            losses = part.task.losses(found, outputs.labels[name])
            loss = factor * losses.total
            total = total + loss
            terms[name] = loss.detach()
            spreads |= {f"{name}/{output}": value for output, value in losses.spreads.items()}
        return Losses(total, terms, spreads)

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, group: ProcessGroup) -> Score:
        """Score weights by the figures of every task, named "<task>/<figure>"."""
        scores = {
            name: part.task.evaluate(task_weights(weights, name), folder, group)
            for name, part in self.parts.items()
            if part.task.has_held_out
        }
        figures = {
            f"{name}/{figure}": value
            for name, score in scores.items()
            for figure, value in score.figures.items()
        }
        return Score(figures, {name: score.details for name, score in scores.items()})


def _labels_of(part: JointPart, owner: str, samples: Any) -> Any:
    """Return a part's batch or labels among the samples of an owner; None if it has none."""
    if samples is None or part.name == owner:
        return samples if part.name == owner else None
    return samples.labels.get(part.name) if part.same_samples_as == owner else None


def _differing(path: str, ours: Any, theirs: Any) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in {**ours, **theirs}:
            inner = f"{path}.{key}" if path else key
            yield from _differing(inner, ours.get(key), theirs.get(key))
    elif ours != theirs:
        yield f"{path}: {ours!r} != {theirs!r}"
