"""Lines of the page on labels of pixels that the docs' test does not run, and who runs the same."""

from __future__ import annotations

_TEST = "tests/cli/test_label_tasks.py"
_LINES = (
    "bevstack train --config upernet_internimage_t_512_ade20k --ade20k ADEChallengeData2016 "
    "--split training --held-out validation --out runs/ade",
    "bevstack evaluate --weights labeller.safetensors --ade20k ADEChallengeData2016 "
    "--split validation --per-class --out scores",
    "bevstack predict --weights labeller.safetensors --images pictures "
    "--ratios 0.5 0.75 1 1.25 1.5 1.75 --mirror --out labels",
    "bevstack evaluate --results labels --cityscapes cityscapes --split val",
)
_CLASS_LINES = (
    "bevstack predict --classifier internimage_t --weights internimage_t_1k_224.pth "
    "--images pictures --out classes.json",
    "bevstack evaluate --classifier internimage_t --weights internimage_t_1k_224.pth "
    "--imagenet imagenet --split val --out scores",
)
_WORLD_LINES = {
    "bevstack make-world world --dense --train-scenes 100 --val-scenes 20 --test-scenes 20 "
    "--samples-per-scene 2": "tests/synthetic/recording/test_dense.py",
    "bevstack train --config upernet_nano_dense --dense world --split synth_train "
    "--held-out synth_val --out runs/nano": "tests/docs/test_pages.py",
    "python tools/control_labels.py --config upernet_nano_dense --dense world "
    "--split synth_train --held-out synth_val --out runs/shuffled": (
        "tests/evaluation/baselines/test_label_prior.py"
    ),
}
LABEL_LINES = {
    **_WORLD_LINES,
    **dict.fromkeys(_LINES, _TEST),
    **dict.fromkeys(_CLASS_LINES, "tests/cli/test_classify_tasks.py"),
}
