"""Output of `bevstack config`."""

import json

from bevstack.cli.main import main
from bevstack.config import config_to_json, load_config, packaged_configs, with_overrides


def test_the_list_describes_every_packaged_configuration(capsys):
    assert main(["config", "list"]) == 0
    text = capsys.readouterr().out
    for name in packaged_configs():
        (line,) = (row for row in text.splitlines() if row.split()[:1] == [name])
        assert len(line.split()) > 5, line


def test_shown_fields_are_overrides_that_give_the_configuration(capsys):
    overrides = ["decoder.num_queries=200", "images.size=96,160"]
    assert main(["config", "show", "tiny_cpu_t4", *overrides]) == 0
    lines = capsys.readouterr().out.splitlines()
    changed = [line for line in lines if "  # was " in line]
    assert changed == ["images.size=96,160  # was 160,400", "decoder.num_queries=200  # was 100"]
    texts = [line.partition("  #")[0] for line in lines]
    assert with_overrides(load_config("tiny_cpu"), texts) == load_config("tiny_cpu_t4", overrides)


def test_the_json_is_that_of_a_weights_file(capsys):
    assert main(["config", "show", "tiny_cpu", "name=mine", "--json"]) == 0
    wanted = config_to_json(load_config("tiny_cpu", ["name=mine"]))
    assert json.loads(capsys.readouterr().out) == json.loads(wanted)


def test_a_wrong_override_is_one_sentence(capsys):
    assert main(["config", "show", "tiny_cpu", "decoder.num_querys=2"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "did you mean 'decoder.num_queries'" in error


def test_verbose_output_names_the_file_and_the_changes(capsys):
    assert main(["config", "show", "tiny_cpu", "name=mine", "-v", "-q"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("bevstack config: configuration tiny_cpu from ")
    assert error.endswith("tiny_cpu.py\n")
    assert main(["doctor", "--config", "tiny_cpu", "name=mine", "-v", "-q"]) == 0
    assert "bevstack doctor: changed by name=mine\n" in capsys.readouterr().err


def test_detectors_of_pictures_are_listed_and_shown(capsys):
    assert main(["config", "list"]) == 0
    assert "mask_rcnn_internimage_t_1x" in capsys.readouterr().out
    assert main(["config", "show", "mask_rcnn_internimage_t_1x", "roi.detections=7"]) == 0
    assert "roi.detections=7  # was 100" in capsys.readouterr().out


def test_segmenters_are_listed_and_shown(capsys):
    assert main(["config", "list"]) == 0
    assert "segformer_internimage_xl_512x1024_cityscapes" in capsys.readouterr().out
    shown = ["config", "show", "upernet_internimage_l_640_ade20k", "head.channels=256"]
    assert main(shown) == 0
    out = capsys.readouterr().out
    assert "head.channels=256  # was 512" in out and "pictures.long_side=2560" in out
