"""One optimiser step: its passes forward and backward, the clipping, the update, the average."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bevstack.config import Config
from bevstack.datasets.loader import BatchStream, SkippedSample
from bevstack.models.build import build_model
from bevstack.training.ema import WeightAverage
from bevstack.training.loss_module import NotFinite, PassLosses, Trainee
from bevstack.training.optimizer import learning_rate, make_optimizer, set_learning_rate
from bevstack.training.parallel import gradients_stay, replicate, scatter, shard, whole
from bevstack.training.processes import Processes
from bevstack.types import Batch


@dataclass(frozen=True)
class StepOutcome:
    """What a step did: the same in every process, but for times and ``skipped_samples``."""

    loss: float
    terms: tuple[tuple[str, float], ...]
    learning_rate: float
    gradient_norm: float
    updated: bool  # False where loss or gradient was not finite: nothing was changed
    sample_tokens: tuple[str, ...]  # of this process
    bad_samples: tuple[str, ...]  # of those: predictions or loss of their pass were not finite
    skipped_samples: tuple[SkippedSample, ...]  # of this process
    num_skipped: int  # samples skipped in all processes
    num_images: int  # in all processes
    data_s: float
    step_s: float


class _Pass(NamedTuple):
    sample_tokens: tuple[str, ...]
    num_images: int
    losses: PassLosses | None  # detached; None where predictions of some process were not finite
    is_bad: bool  # whether predictions were not finite in this process


class Learner:
    """The model, its optimiser and its average, and how they take one step.

    Every random draw of a step comes from (seed, step, pass, process): what a step does depends
    on nothing but the weights, the optimiser's state and the step's number.

    Args:
        config: model and recipe.
        processes: those that train together.
        start: what the weights begin as, all of the model's state; none: drawn from the seed.
    """

    def __init__(
        self,
        config: Config,
        processes: Processes,
        *,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.recipe = config.training
        self.processes = processes
        torch.manual_seed(self.recipe.seed)  # the same first weights in every process
        self.model = build_model(config)
        if start is not None:
            self.model.load_state_dict(start)
        self.model.to(processes.device).train()
        self.trainee = Trainee(self.model, config, processes=processes)
        self.sharded = self.recipe.engine == "fsdp" and processes.world_size > 1
        if self.sharded:
            shard(self.trainee, processes, by_parts=config.temporal is None)
        self.optimizer = make_optimizer(self.model, self.recipe)
        decay = self.recipe.ema_decay
        self.average = WeightAverage(self.model, decay) if decay else None
        self._engine: nn.Module | None = None
        self._engine_is_partial = False

    def weights(self) -> dict[str, Tensor]:
        """What is evaluated and kept: the averaged weights, or the trained ones; whole.

        Every process must ask.
        """
        averaged = {} if self.average is None else self.average.tensors
        own = self.model.state_dict()
        return {name: whole(averaged.get(name, value)).detach() for name, value in own.items()}

    def step(self, stream: BatchStream, batches: Iterator[Batch], number: int) -> StepOutcome:
        """Takes step ``number`` (1 is the first) with the next batches of a stream."""
        started = time.perf_counter()
        rate = learning_rate(number - 1, self.recipe)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        before = len(stream.skipped)
        statistics = self._copy_of_statistics()
        passes, data_s = self._passes(batches, number)
        skipped = tuple(stream.skipped[before:])
        loss, terms, num_images, num_skipped = self._sum_up(passes, len(skipped))
        norm = self._clip() if np.isfinite(loss) else float("nan")
        updated = bool(np.isfinite(norm))
        if updated:
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.model, number)
        else:
            self._undo_pass(statistics)
        return StepOutcome(
            loss=loss,
            terms=terms,
            learning_rate=rate,
            gradient_norm=norm,
            updated=updated,
            sample_tokens=tuple(token for done in passes for token in done.sample_tokens),
            bad_samples=() if np.isfinite(loss) else _bad_samples(passes),
            skipped_samples=skipped,
            num_skipped=num_skipped,
            num_images=num_images,
            data_s=data_s,
            step_s=time.perf_counter() - started,
        )

    def _passes(self, batches: Iterator[Batch], number: int) -> tuple[list[_Pass], float]:
        """Forward and backward of every part of the step's samples; seconds spent waiting."""
        partial = number <= self.recipe.perspective_steps
        engine = self._engine_for(partial)
        last = self.recipe.accumulate - 1
        passes: list[_Pass] = []
        data_s = 0.0
        for index in range(self.recipe.accumulate):
            waiting = time.perf_counter()
            batch = next(batches).to(self.processes.device)
            data_s += time.perf_counter() - waiting
            losses: PassLosses | None = None
            is_bad = False
            if all(earlier.losses is not None for earlier in passes):
                torch.manual_seed(self._seed(number, index))
                with gradients_stay(engine, index < last):
                    found = engine(batch, partial)
                    if isinstance(found, NotFinite):
                        is_bad = found.here
                    else:
                        (found.total / self.recipe.accumulate).backward()
                        losses = PassLosses(found.total.detach(), found.terms)
            images = int(np.prod(batch.images.shape[:3]))
            passes.append(_Pass(batch.sample_tokens, images, losses, is_bad))
        return passes, data_s

    def _engine_for(self, partial: bool) -> nn.Module:
        """What runs the passes; made anew where the part of the model that is trained changes."""
        if self.processes.world_size == 1 or self.sharded:
            return self.trainee
        if self._engine is None or self._engine_is_partial != partial:
            self._engine = None  # the old one takes its hooks along
            self._engine = replicate(self.trainee, some_unused=partial)
            self._engine_is_partial = partial
        return self._engine

    def _seed(self, number: int, index: int) -> int:
        key = (self.recipe.seed, number, index, self.processes.rank)
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])

    def _sum_up(
        self, passes: list[_Pass], skipped: int
    ) -> tuple[float, tuple[tuple[str, float], ...], int, int]:
        """Loss and its terms, images, skipped samples: of all processes, in one transfer."""
        images = sum(done.num_images for done in passes)
        known = [done.losses for done in passes if done.losses is not None]
        names: list[str] = []
        parts: list[Tensor] = []
        if len(known) == len(passes):  # in every process, as they agreed on it
            names = list(known[0].terms)
            rows = [torch.stack((of.total, *(of.terms[name] for name in names))) for of in known]
            parts.append(torch.stack(rows).double().mean(0) / self.processes.world_size)
        counts = torch.tensor([images, skipped], dtype=torch.float64, device=self.processes.device)
        values = self.processes.total(torch.cat((*parts, counts))).tolist()
        *losses, images, skipped = values
        if not losses:
            return float("nan"), (), int(images), int(skipped)
        terms = tuple(zip(names, losses[1:], strict=True))
        return losses[0], terms, int(images), int(skipped)

    def _clip(self) -> float:
        """The gradient's norm, over all parameters, before it is cut to the allowed one."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
        return float(whole(norm))

    def _copy_of_statistics(self) -> dict[str, Tensor]:
        """Running statistics as they are, where a step may have to be undone."""
        if self.recipe.on_bad_step == "stop":
            return {}
        return {name: buffer.clone() for name, buffer in self.model.named_buffers()}

    @torch.no_grad()
    def _undo_pass(self, statistics: dict[str, Tensor]) -> None:
        if self.sharded:
            scatter(self.trainee)
        for name, buffer in self.model.named_buffers():
            if name in statistics:
                buffer.copy_(statistics[name])


def _bad_samples(passes: list[_Pass]) -> tuple[str, ...]:
    """Samples of the passes in which this process's predictions or loss were not finite."""
    bad = [d for d in passes if d.is_bad or (d.losses and not d.losses.total.isfinite())]
    return tuple(token for done in bad for token in done.sample_tokens)
