"""Options that verbs share: overrides, earlier spellings, quiet and verbose output."""

import json
import logging

import pytest
import torch.distributed.run

from bevstack.cli.main import VERBS, build_parser, main
from bevstack.cli.options import Parser, add_common, add_overrides, rename_options

MAX = "--max-samples is now --max-frames"


def parse(*argv):
    parser = Parser(prog="bevstack work")
    parser.add_argument("--out")
    parser.add_argument("--json", action="store_true")
    add_overrides(parser)
    rename_options(parser, {"--to": "--out"})
    return parser.parse_args(argv)


def test_overrides_stand_before_between_and_after_options():
    assert parse("a=1", "--out", "x", "b.c=2", "--json", "d=[1,2]").overrides == [
        "a=1",
        "b.c=2",
        "d=[1,2]",
    ]
    assert parse("--out", "x").overrides == []
    assert parse("--out", "k=v").overrides == []


@pytest.mark.parametrize("word", ["--a.b=1", "-a.b=1"])
def test_an_override_with_dashes_is_refused_with_the_remedy(word, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("--out", "x", word)
    assert f"must be given without dashes; got {word}" in capsys.readouterr().err


def test_other_words_are_still_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("--out", "x", "word")
    assert "unrecognized arguments: word" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--to", "x"], ["--to=x"]])
def test_an_earlier_spelling_works_with_a_note(words, capsys):
    assert parse(*words).out == "x"
    assert capsys.readouterr().err == "bevstack work: note: --to is now --out\n"


def test_verbs_that_take_a_configuration_take_overrides(capsys):
    for verb in ("train", "predict", "study", "convert-weights", "doctor", "config"):
        words = ["show"] if verb == "config" else []
        with pytest.raises(SystemExit, match="0"):
            main([verb, *words, "--help"])
        assert "[KEY=VALUE ...]" in capsys.readouterr().out, verb


def test_no_word_of_a_verb_is_an_override_where_there_is_no_configuration(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "training.seed=1"])
    assert "unrecognized arguments: training.seed=1" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-v", "-vv", "-q", "--quiet", "--verbose", "--traceback"])
def test_torchrun_consumes_no_option_of_every_verb(option):
    words = ["-m", "bevstack", "train", option]
    parsed = torch.distributed.run.get_args_parser().parse_args(["--nproc-per-node", "2", *words])
    assert parsed.training_script_args == words[2:]


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_has_the_common_options(verb, capsys):
    with pytest.raises(SystemExit, match="0"):
        build_parser().parse_args([verb, "--help"])
    text = capsys.readouterr().out
    assert "--quiet" in text and "--verbose" in text and "--traceback" in text


def test_quiet_prints_only_the_json_and_errors(capsys):
    assert main(["config", "show", "tiny_cpu", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["config", "show", "tiny_cpu", "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny_cpu"
    assert main(["config", "show", "tiny_cpp", "-q"]) == 2
    assert "did you mean 'tiny_cpu'" in capsys.readouterr().err


def test_common_options_stand_before_or_after_an_inner_verb(capsys):
    assert main(["config", "-q", "list"]) == main(["config", "list", "-q"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], ["careful"]),
        (["-v"], ["careful", "read a file"]),
        (["-vv"], ["careful", "read a file", "detail"]),
    ],
)
def test_the_logs_of_the_library_follow_the_verbosity(words, shown, monkeypatch, capsys):
    def work(args):
        logger = logging.getLogger("bevstack.work")
        logger.debug("detail")
        logger.info("read %s", "a file")
        logger.warning("careful")
        return 0

    monkeypatch.setattr("bevstack.cli.config.run", work)
    assert main(["config", "list", *words]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == sorted(f"bevstack config: {text}" for text in shown)
    logger = logging.getLogger("bevstack")
    assert logger.level == logging.NOTSET and not any(
        type(handler) is logging.StreamHandler for handler in logger.handlers
    )


def test_common_options_can_be_added_to_a_parser_without_subclass():
    parser = Parser()
    add_common(parser)
    assert vars(parser.parse_args([])) == {} and parser.parse_args(["-vv"]).verbose == 2


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("demo --seed 0 --model tiny_cpu_t4", "--model is now --weights"),
        ("show --results r --max 1 --out o", "--max is now --max-frames"),
        ("judge none --nuscenes x --version v --split s --max-samples 2", MAX),
        ("study --config no --nuscenes x --version v --split s --held-out h --max-samples 2", MAX),
        ("convert-weights f --to o.pth --config tiny_cpu", "--to is now --out"),
        ("convert-weights f --out o.pth --config tiny_cpu --weights raw", "--weights is now --use"),
        ("evaluate r --dataroot x --version v", "--dataroot is now --nuscenes"),
    ],
)
def test_earlier_spellings_of_the_verbs_are_understood(line, note, capsys):
    assert main(line.split()) == 2  # each line has another fault
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"bevstack {line.split()[0]}: note: {note}" and ": error: " in second


def test_files_and_folders_are_given_once(capsys, tmp_path):
    data = ["--nuscenes", "x", "--version", "v", "--split", "s"]
    for words, message in (
        (["make-world"], "one folder must be given with --out; got none"),
        (["make-world", "a", "--out", "b"], "one folder must be given with --out; got a and b"),
        (["judge", *data], "one --weights FILE must be given; got none"),
        (["judge", "a", "--weights", "b", *data], "one --weights FILE must be given; got b and a"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--cues", "--manoeuvre"])
def test_show_and_view_declare_the_same_option(option):
    def declared(verb):
        actions = next(a for a in build_parser()._actions if a.dest == "verb").choices[verb]
        return next(a for a in actions._actions if option in a.option_strings)

    shown, viewed = declared("show"), declared("view")
    assert (shown.help, shown.choices, shown.type) == (viewed.help, viewed.choices, viewed.type)
