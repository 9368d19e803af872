"""One optimiser step: forward and backward passes, gradient clipping, update, weight average."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bevstack.losses.criterion import Losses
from bevstack.models.fit import widen_halves
from bevstack.tasks.task import Batches, NotFinite, Task, TaskBatch
from bevstack.training.ema import WeightAverage
from bevstack.training.loss_module import LossModule
from bevstack.training.optimizer import learning_rate, make_optimizer, set_learning_rate
from bevstack.training.parallel import full_tensor, no_gradient_sync, replicate, reshard, shard
from bevstack.training.processes import Processes


@dataclass(frozen=True)
class StepOutcome:
    """Result of a step: equal in every process, except times and the fields of one process."""

    loss: float
    terms: tuple[tuple[str, float], ...]
    learning_rate: float
    gradient_norm: float
    updated: bool  # False if loss or gradient was not finite; the weights are then unchanged
    sample_tokens: tuple[str, ...]  # of this process
    bad_samples: tuple[str, ...]  # those in passes whose predictions or loss were not finite
    skipped_samples: tuple[tuple[str, str], ...]  # of this process
    num_skipped: int  # samples skipped in all processes
    num_images: int  # in all processes
    data_s: float
    step_s: float
    # largest spread of each output in any pass of this process; NaN where it was not measured
    spreads: Mapping[str, float]


class _Pass(NamedTuple):
    sample_tokens: tuple[str, ...]
    num_images: int
    losses: Losses | None  # detached; None if predictions of some process were not finite
    is_bad: bool  # True if predictions of this process were not finite


class OptimizerStep:
    """Model, optimiser and weight average, and the step that updates them.

    Every random draw of a step comes from (seed, step, pass, process). A step therefore depends
    only on the weights, the optimiser's state and the step's number.

    Args:
        task: builds the model and computes its losses.
        processes: the processes that train together.
        start: the complete initial state of the model; None: drawn from the seed.

    Raises:
        ValueError: ``layer_decay`` is below 1 and the backbone is not an InternImage.
    """

    def __init__(
        self,
        task: Task,
        processes: Processes,
        *,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.recipe = task.recipe
        self.all_parts_run = task.all_parts_run
        self.processes = processes
        torch.manual_seed(self.recipe.seed)  # the same first weights in every process
        self.model = task.build_model()
        if start is not None:
            wanted = self.model.state_dict()
            start = widen_halves(start, wanted)
            _check_fit(wanted, start)
            self.model.load_state_dict(start)
        self.model.to(processes.device).train()
        self.loss_module = LossModule(self.model, task, processes=processes)
        self.sharded = self.recipe.engine == "fsdp" and processes.world_size > 1
        if self.sharded:
            shard(self.loss_module, processes, task.sharding)
        self.optimizer = make_optimizer(self.model, self.recipe)
        decay = self.recipe.ema_decay
        self.average = WeightAverage(self.model, decay) if decay else None
        self._replica: nn.Module | None = None
        self._replica_is_partial = False

    def weights(self) -> dict[str, Tensor]:
        """Return the weights to evaluate and keep: averaged if the recipe averages, else trained.

        The tensors are not sharded. Every process must call this method.
        """
        averaged = {} if self.average is None else self.average.tensors
        trained = self.model.state_dict()
        return {
            name: full_tensor(averaged.get(name, value)).detach() for name, value in trained.items()
        }

    def run(self, stream: Batches, batches: Iterator[TaskBatch], number: int) -> StepOutcome:
        """Run step ``number`` (1 is the first) with the next batches of a stream.

        Args:
            stream: the training samples; its list of skipped samples is read.
            batches: iterator over the stream.
            number: number of the step.

        Raises:
            FileNotFoundError: an image is missing and is not to be skipped.
            ValueError: an image is damaged and is not to be skipped.
        """
        started = time.perf_counter()
        rate = learning_rate(number - 1, self.recipe)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        num_skipped_before = len(stream.skipped)
        statistics = self._copy_statistics()
        passes, data_s = self._run_passes(batches, number)
        skipped = tuple(stream.skipped[num_skipped_before:])
        loss, terms, num_images, num_skipped = self._reduce(passes, len(skipped))
        norm = self._clip_gradients() if np.isfinite(loss) else float("nan")
        updated = bool(np.isfinite(norm))
        if updated:
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.model, number)
        else:
            self._restore_statistics(statistics)
        return StepOutcome(
            loss=loss,
            terms=terms,
            learning_rate=rate,
            gradient_norm=norm,
            updated=updated,
            sample_tokens=tuple(token for a_pass in passes for token in a_pass.sample_tokens),
            bad_samples=() if np.isfinite(loss) else _bad_samples(passes),
            skipped_samples=skipped,
            num_skipped=num_skipped,
            num_images=num_images,
            data_s=data_s,
            step_s=time.perf_counter() - started,
            spreads=_largest_spreads(passes),
        )

    def _run_passes(self, batches: Iterator[TaskBatch], number: int) -> tuple[list[_Pass], float]:
        """Run forward and backward passes; return them and the seconds spent waiting for data."""
        partial = number <= self.recipe.perspective_steps
        module = self._module_for(partial)
        last = self.recipe.accumulate - 1
        passes: list[_Pass] = []
        data_s = 0.0
        for index in range(self.recipe.accumulate):
            wait_start = time.perf_counter()
            batch = next(batches).to(self.processes.device)
            data_s += time.perf_counter() - wait_start
            losses: Losses | None = None
            is_bad = False
            if all(earlier.losses is not None for earlier in passes):
                torch.manual_seed(self._seed(number, index))
                with no_gradient_sync(module, index < last):
                    result = module(batch, partial)
                    if isinstance(result, NotFinite):
                        is_bad = result.here
                    else:
                        (result.total / self.recipe.accumulate).backward()
                        losses = Losses(result.total.detach(), result.terms, result.spreads)
            passes.append(_Pass(batch.sample_tokens, batch.num_images, losses, is_bad))
        return passes, data_s

    def _module_for(self, partial: bool) -> nn.Module:
        """Return the module that runs the passes.

        DDP's replica is built again when the trained part of the model changes.
        """
        if self.processes.world_size == 1 or self.sharded:
            return self.loss_module
        unused = partial or not self.all_parts_run
        if self._replica is None or self._replica_is_partial != partial:
            self._replica = None  # releases the hooks of the old one
            self._replica = replicate(self.loss_module, some_unused=unused)
            self._replica_is_partial = partial
        return self._replica

    def _seed(self, number: int, index: int) -> int:
        key = (self.recipe.seed, number, index, self.processes.rank)
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])

    def _reduce(
        self, passes: list[_Pass], skipped: int
    ) -> tuple[float, tuple[tuple[str, float], ...], int, int]:
        """Reduce loss, terms, images and skipped samples over all processes, in one transfer."""
        images = sum(a_pass.num_images for a_pass in passes)
        finite = [a_pass.losses for a_pass in passes if a_pass.losses is not None]
        names: list[str] = []
        parts: list[Tensor] = []
        if len(finite) == len(passes):  # the same in every process, by ``all_true``
            names = list(finite[0].terms)
            rows = [torch.stack((ls.total, *(ls.terms[name] for name in names))) for ls in finite]
            parts.append(torch.stack(rows).double().mean(0) / self.processes.world_size)
        counts = torch.tensor([images, skipped], dtype=torch.float64, device=self.processes.device)
        values = self.processes.all_reduce_sum(torch.cat((*parts, counts))).tolist()
        *losses, images, skipped = values
        if not losses:
            return float("nan"), (), int(images), int(skipped)
        terms = tuple(zip(names, losses[1:], strict=True))
        return losses[0], terms, int(images), int(skipped)

    def _clip_gradients(self) -> float:
        """Clip the gradient's norm over all parameters; return the norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
        return float(full_tensor(norm))

    def _copy_statistics(self) -> dict[str, Tensor]:
        """Copy the running statistics, if a bad step is to be undone."""
        if self.recipe.on_bad_step == "stop":
            return {}
        return {name: buffer.clone() for name, buffer in self.model.named_buffers()}

    @torch.no_grad()
    def _restore_statistics(self, statistics: dict[str, Tensor]) -> None:
        if self.sharded:
            reshard(self.loss_module)
        for name, buffer in self.model.named_buffers():
            if name in statistics:
                buffer.copy_(statistics[name])


def _largest_spreads(passes: list[_Pass]) -> dict[str, float]:
    """Return the largest spread of each output in any pass, in one transfer."""
    found = [p.losses.spreads for p in passes if p.losses is not None]
    names = [name for spreads in found for name in spreads]
    if not names:
        return {}
    values = torch.stack([value for spreads in found for value in spreads.values()]).tolist()
    largest: dict[str, float] = {}
    for name, value in zip(names, values, strict=True):
        largest[name] = float(np.fmax(largest.get(name, np.nan), value))
    return largest


def _bad_samples(passes: list[_Pass]) -> tuple[str, ...]:
    """Return the samples of passes whose predictions or loss were not finite in this process."""
    bad = [p for p in passes if p.is_bad or (p.losses and not p.losses.total.isfinite())]
    return tuple(token for a_pass in bad for token in a_pass.sample_tokens)


def _check_fit(wanted: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
    """Check names, shapes and number types of initial weights.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape or type; names the first.
    """

    def describe(tensors: Mapping[str, Tensor], name: str) -> str:
        tensor = tensors.get(name)
        return "none" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"

    names = sorted(wanted.keys() | start.keys())
    wrong = [name for name in names if describe(wanted, name) != describe(start, name)]
    if wrong:
        raise ValueError(
            f"initial weights must fit the model; got {describe(start, wrong[0])} instead of "
            f"{describe(wanted, wrong[0])} for {wrong[0]} ({len(wrong)} tensors in all)"
        )
