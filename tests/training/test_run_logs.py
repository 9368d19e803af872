"""Log files, and TensorBoard if it is installed."""

import builtins
import math

import pytest

from bevstack.config import TrainingConfig
from bevstack.training.events import Skipped, StepReport
from bevstack.training.jsonl import append_jsonl, read_jsonl
from bevstack.training.run_logs import RunLogs, best_figure

BOARD = TrainingConfig(tensorboard=True)


def report(step, loss=1.5):
    return StepReport(
        step=step,
        num_steps=9,
        loss=loss,
        terms=(("class_0", 0.5), ("box_0", 1.0)),
        learning_rate=1e-3,
        gradient_norm=2.0,
        data_s=0.25,
        step_s=0.5,
        num_images=24,
        memory_bytes=1_000_000,
        skipped=0,
    )


def test_numbers_that_are_not_finite_are_written_as_null_and_read_as_nan(tmp_path):
    append_jsonl(tmp_path / "log", {"step": 1, "loss": math.nan, "norm": math.inf})
    assert (tmp_path / "log").read_text() == '{"step": 1, "loss": null, "norm": null}\n'
    (entry,) = read_jsonl(tmp_path / "log")
    assert math.isnan(entry["loss"]) and math.isnan(entry["norm"]) and entry["step"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 of .*log must be JSON"),
        ("7", "line 1 of .*log must be a JSON object; got 7"),
        ('{"loss": 1.0}', "step in line 1 of .*log must be a whole number; got None"),
        ('{"step": "1"}', "step in line 1 of .*log must be a whole number; got '1'"),
        ('{"step": true}', "step in line 1 of .*log must be a whole number; got True"),
        ('{"step": 1, "loss": "low"}', "loss in line 1 of .*log must be a number or null; got 'lo"),
        ('{"step": 1, "loss": false}', "loss in line 1 of .*log must be a number or null; got Fa"),
        ('{"step": 1, "loss": NaN}', "line 1 of .*log must be JSON; got NaN, which is not finite"),
        ("[" * 100_000, "line 1 of .*log must be JSON; got too many nested"),
        ("\xff", "line 1 of .*log must be UTF-8 text"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, message):
    (tmp_path / "log").write_bytes(f'{line}\n{{"step": 2}}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_jsonl(tmp_path / "log")


def test_only_the_last_line_may_be_cut_short(tmp_path):
    (tmp_path / "log").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert [entry["step"] for entry in read_jsonl(tmp_path / "log")] == [1, 2]
    (tmp_path / "log").write_text('{"step": 1}\n{"step": 2')
    assert [entry["step"] for entry in read_jsonl(tmp_path / "log")] == [1]


def test_a_log_without_a_figure_is_named(tmp_path):
    (tmp_path / "log").write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match=r"log .*log must have the field 'nds'; got \['step'\]"):
        best_figure(tmp_path / "log", "nds")


def test_every_file_continues_after_the_last_checkpoint(tmp_path):
    logs = RunLogs(tmp_path, TrainingConfig(), steps_done=0)
    for step in (1, 2, 3):
        logs.add_step(report(step))
        logs.add_skipped(Skipped(step, ("a", "b"), "because"))
    logs = RunLogs(tmp_path, TrainingConfig(), steps_done=2)
    assert [entry["step"] for entry in read_jsonl(logs.log)] == [1, 2]
    assert logs.skipped.read_text().count("because") == 2
    assert report(1).images_per_s == 48


def test_missing_tensorboard_is_reported_with_its_extra_before_training(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args):
        if name.startswith(("torch.utils.tensorboard", "tensorboard")):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'bevstack\[tensorboard\]'"):
        RunLogs(tmp_path, BOARD, steps_done=0)


def test_tensorboard_shows_the_log(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = RunLogs(tmp_path, BOARD, steps_done=0)
    for step in (1, 2, 3):
        logs.add_step(report(step, loss=math.nan if step == 2 else 10.0 * step))
    logs.close()
    resumed = RunLogs(tmp_path, BOARD, steps_done=2)
    resumed.add_step(report(3, loss=7.0))
    resumed.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert shown == [(1, 10.0), (3, 7.0)]
    assert {"train/loss/class_0", "train/images", "train/step_s"} <= set(events.Tags()["scalars"])
