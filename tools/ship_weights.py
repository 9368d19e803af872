r"""Writes what a training left as weights that come with bevstack: in half precision, with origin.

Example:
    python tools/ship_weights.py out/run/model.safetensors --to weights/tiny_cpu_t4.safetensors \
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

from bevstack.config import load_config
from bevstack.training.checkpoint import is_checkpoint, weights_of
from bevstack.training.release import MAX_BYTES, ship_log, ship_weights
from bevstack.training.validation import write_weights

LOG_STEPS = 20  # a line
ROOT = Path(__file__).resolve().parent.parent


def current_revision() -> str:
    """The commit of this checkout; with "+changes" where files differ from it.

    Raises:
        ValueError: this is no checkout.
    """
    try:
        commit, changes = (
            subprocess.run(
                ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"revision must be given outside a git checkout; got {error}") from None
    return commit + ("+changes" if changes else "")


def as_model(source: Path, folder: Path) -> Path:
    """The source; of a checkpoint, a model file of the weights that its run would keep."""
    if not is_checkpoint(source):
        return source
    weights, config, position = weights_of(source)
    model = folder / "model.safetensors"
    write_weights(model, weights, config, steps=position.steps_done)
    return model


def main(arguments: list[str] | None = None) -> int:
    """Writes the file and says what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="model or checkpoint of a training")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--data-digest", required=True, help="digest of the world trained on, of make-world"
    )
    parser.add_argument("--command", required=True, help="the command that trained it")
    parser.add_argument("--revision", help="commit it was trained at (default: this checkout's)")
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help=f"log of the training, to be kept beside the weights, {LOG_STEPS} steps a line",
    )
    parser.add_argument(
        "--read-as",
        metavar="CONFIG",
        help="configuration whose decoder says how boxes are read, where it was chosen later",
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
            if args.log is not None:  # one that cannot be read is refused before all is written
                ship_log(args.log, log, steps=LOG_STEPS)
            source = as_model(args.source, Path(folder))
            decoder = None if args.read_as is None else load_config(args.read_as).decoder
            shipment = ship_weights(
                source, args.to, provenance, decoder=decoder, max_bytes=max_bytes
            )
            if args.log is not None:
                shutil.copyfile(log, args.to.with_suffix(".log.jsonl"))
    except (OSError, ValueError) as error:
        print(f"ship_weights: error: {error}", file=sys.stderr)
        return 2
    print(
        f"{shipment.path}: {shipment.num_values} values in {shipment.num_bytes / 1e6:.2f} MB; half "
        f"precision moved none by more than {shipment.largest_change:.1e} of its tensor's largest"
    )
    for name, text in provenance.items():
        print(f"  {name}: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
