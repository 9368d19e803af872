r"""Conversion of a training's model to packaged weights: in half precision, with provenance.

Example:
    python tools/ship_weights.py out/run/model.safetensors --out weights/tiny_cpu_t4.safetensors \
        --log out/run/log.jsonl --data-digest 0f3a... \
        --command 'bevstack train --config tiny_cpu_t4 ...'
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bevstack.config import config_from_json, load_config
from bevstack.models.build import save_weights
from bevstack.training.checkpoint import is_checkpoint, read_weights
from bevstack.training.release import MAX_BYTES, ship_log, ship_weights

LOG_STEPS = 20  # training steps per line of the log
ROOT = Path(__file__).resolve().parent.parent


def current_revision() -> str:
    """Return the commit of this checkout, followed by "+changes" if files differ from it.

    Raises:
        ValueError: The program does not run in a git checkout.
    """
    try:
        commit, changes = (
            subprocess.run(
                ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"revision must be given outside a git checkout; got {error}: pass --revision"
        ) from None
    return commit + ("+changes" if changes else "")


def as_model(source: Path, folder: Path) -> Path:
    """Return a model file: the source, or for a checkpoint a model with its final weights."""
    if not is_checkpoint(source):
        return source
    weights, text, position = read_weights(source)
    config = config_from_json(text)
    recorded = {"steps": str(position.steps_done), "ema_decay": str(config.training.ema_decay)}
    model = folder / "model.safetensors"
    save_weights(model, weights, config, recorded)
    return model


def main(arguments: list[str] | None = None) -> int:
    """Write the file and print its size, precision and provenance."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="model or checkpoint of a training")
    parser.add_argument(
        "--out", "--to", type=Path, required=True, metavar="FILE", help="file to write"
    )
    parser.add_argument(
        "--data-digest",
        required=True,
        help="digest of the training data, printed by make-world",
    )
    parser.add_argument("--command", required=True, help="command of the training")
    parser.add_argument(
        "--revision", help="commit of the training (default: the commit of this checkout)"
    )
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help=f"log of the training; stored beside the weights with {LOG_STEPS} steps a line",
    )
    parser.add_argument(
        "--read-as",
        metavar="CONFIG",
        help="configuration whose decoder settings replace those of the training",
    )
    parser.add_argument(
        "--max-mb", type=float, default=MAX_BYTES / 1e6, help="largest file (default: %(default)g)"
    )
    args = parser.parse_args(arguments)
    try:
        provenance = {
            "data_digest": args.data_digest,
            "command": args.command,
            "revision": args.revision or current_revision(),
        }
        max_bytes = round(args.max_mb * 1e6)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log.jsonl"
            if args.log is not None:  # refuse an unreadable log before writing any file
                ship_log(args.log, log, steps=LOG_STEPS)
            source = as_model(args.source, Path(folder))
            decoder = None if args.read_as is None else load_config(args.read_as).decoder
            shipment = ship_weights(
                source, args.out, provenance, decoder=decoder, max_bytes=max_bytes
            )
            if args.log is not None:
                shutil.copyfile(log, args.out.with_suffix(".log.jsonl"))
    except (OSError, ValueError) as error:
        print(f"ship_weights: error: {error}", file=sys.stderr)
        return 2
    print(
        f"{shipment.path}: {shipment.num_values} values in {shipment.num_bytes / 1e6:.2f} MB; half "
        f"precision changed a value by at most {shipment.largest_change:.1e} of its tensor's "
        "largest magnitude"
    )
    for name, text in provenance.items():
        print(f"  {name}: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
