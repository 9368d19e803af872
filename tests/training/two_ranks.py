"""Training by two processes, which tests compare with a single one; started by torchrun.

torchrun --nproc-per-node 2 tests/training/two_ranks.py WORLD OUT
"""

import dataclasses
import sys
from pathlib import Path

import torch

from bevstack.cli.main import main
from bevstack.config import BEVGrid, ImageConfig, load_config
from bevstack.models.bevformer import BEVFormerV2
from bevstack.training.processes import join_processes, leave_processes
from tests.small_world import CONFIG, SPEC, dataset
from tests.small_world import train_detector as train

RECIPE = dataclasses.replace(
    CONFIG.training, num_steps=3, batch_size=4, learning_rate=1e-4, warmup_steps=0, ema_decay=0.9
)
FSDP = dataclasses.replace(RECIPE, engine="fsdp")
POISONED_STEP = 2


def one_frame(recipe):
    """Return the small detector without dropout and drop path, whose draws differ by process."""
    return dataclasses.replace(
        CONFIG,
        backbone=dataclasses.replace(CONFIG.backbone, drop_path_rate=0.0),
        encoder=dataclasses.replace(CONFIG.encoder, dropout=0.0),
        decoder=dataclasses.replace(CONFIG.decoder, dropout=0.0),
        training=recipe,
    )


def all_stages(recipe):
    """Return a detector with perspective head, proposals, query groups and history."""
    config = load_config("tiny_cpu_t4")
    return dataclasses.replace(
        config,
        frames=(-1, 0),
        images=ImageConfig(size=(64, 160)),
        grid=BEVGrid(shape=(10, 12)),
        fpn=dataclasses.replace(config.fpn, channels=32),
        encoder=dataclasses.replace(config.encoder, num_layers=1),
        decoder=dataclasses.replace(config.decoder, num_layers=2, num_queries=20),
        perspective=dataclasses.replace(config.perspective, num_convs=1),
        temporal=dataclasses.replace(config.temporal, norm="SyncBN", inter_channels=16),
        training=recipe,
    )


def with_stages(recipe):
    return dataclasses.replace(recipe, perspective_steps=1, accumulate=2)


CASES = {
    "ddp": one_frame(RECIPE),
    "fsdp": one_frame(FSDP),
    "all_ddp": all_stages(with_stages(RECIPE)),
    "all_fsdp": all_stages(with_stages(FSDP)),
}
SKIPPING = one_frame(dataclasses.replace(RECIPE, on_bad_step="skip"))


def poison(sample_token):
    """Make the predictions for one sample NaN."""
    forward = BEVFormerV2.forward

    def poisoned(self, batch, memory=None, maps=None):
        output = forward(self, batch, memory, maps)
        if sample_token in batch.sample_tokens:
            row = batch.sample_tokens.index(sample_token)
            codes = output.decoder.codes.clone()
            codes[:, row] = torch.nan
            decoder = dataclasses.replace(output.decoder, codes=codes)
            output = dataclasses.replace(output, decoder=decoder)
        return output

    BEVFormerV2.forward = poisoned


def join_again(times):
    """Join and leave several times: a new group must not use keys of the earlier ones."""
    for _ in range(times):
        assert join_processes().all_reduce_sum(torch.ones(())).item() == 2
        leave_processes()


def run(world, out):
    join_again(10)  # with keys of an earlier group, one of the first few waits forever
    processes = join_processes()
    samples = dataset(world)
    for name, config in CASES.items():
        held_out = dataset(world, "synth_val")
        train(config, samples, out / name, held_out=held_out, processes=processes, resume=True)
    for name in ("ddp", "fsdp"):  # started by one process
        train(CASES[name], samples, out / f"{name}_resumed", processes=processes, resume=True)
    arguments = ["--config", str(out / "config.py"), "--nuscenes", str(world)]
    arguments += ["--version", SPEC.version, "--split", "synth_train", "--out", str(out / "cli")]
    assert main(["train", *arguments]) == 0
    processes = join_processes()  # the command has left the group
    poison(samples.sample_token(int((out / "victim").read_text())))
    for engine in ("ddp", "fsdp"):
        recipe = dataclasses.replace(SKIPPING.training, engine=engine)
        config = dataclasses.replace(SKIPPING, training=recipe)
        train(config, samples, out / f"skip_{engine}", processes=processes)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
