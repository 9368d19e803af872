"""Hostile label files: they are refused in one sentence, quickly and in little memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from bevstack.datasets.traffic import read
from bevstack.datasets.traffic.json_stream import stream_list
from bevstack.datasets.traffic.yaml_documents import parse_yaml
from tests.datasets.traffic import published
from tests.datasets.traffic.test_readers import write

LAUGHS = "a: &a [x, x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"
ENTITY = '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY {entity}>]>\n<annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LAUGHS, "an anchor or alias in line 1"),
        ("- !!python/object/apply:os.system ['true']\n", "the tag '.*os.system' in line 1"),
        ("a: 1\n---\nb: 2\n", "a second document"),
        ("a: 1\na: 2\n", "the key 'a' twice in line 2"),
        ("[" * 40 + "]" * 40, "more than 16 nested values"),
        ("? [a, b]\n: 1\n", "a key that is no text"),
        ("<<: {a: 1}\n<<: {b: 2}\n", "the key '<<' twice"),
    ],
)
def test_yaml_beyond_plain_values_is_refused(text: str, found: str) -> None:
    with pytest.raises(ValueError, match=f"must be plain YAML; got {found}"):
        parse_yaml(text, "labels")


@pytest.mark.parametrize(
    "text", ["a: [1", "\t- a", "a: 'b", "\x00", b"\xff\xfe\xfd", "[" * 100_000]
)
def test_broken_yaml_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"labels must be (plain )?YAML"):
        parse_yaml(text, "labels")


def test_yaml_keeps_texts_that_its_version_1_1_changes() -> None:
    document = parse_yaml("a: off\nb: 'off'\nc: 1:30\nd: 2001-01-01\ne: ~\nf: 1e3\n", "labels")
    texts = {"a": "off", "b": "off", "c": "1:30", "d": "2001-01-01", "e": "~", "f": "1e3"}
    assert document == texts


@pytest.mark.parametrize(
    "entity",
    ['b "lol"', 'b SYSTEM "file:///etc/passwd"', '% p SYSTEM "http://localhost/x"', 'b "&b;&b;"'],
)
def test_xml_with_a_document_type_is_refused(tmp_path: Path, entity: str) -> None:
    path = write(tmp_path / "a.xml", ENTITY.format(entity=entity))
    with pytest.raises(ValueError, match="must have no document type"):
        read(path, "s2tld")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a>" * 50 + "</a>" * 50, "at most 16 nested elements"),
        ("<annotation><size></annotation>", "must be XML; got mismatched tag in line 1"),
        ("", "must be XML; got no element found"),
        ('<?xml version="1.0" encoding="x-unknown"?><a/>', "must be XML"),
        (published.S2TLD.replace("1920", "1e9"), "<width> of a.xml must be a number of pixels"),
        (published.S2TLD.replace("1003", "nan"), "<xmin> of object 0 .* must be a finite number"),
        (published.S2TLD.replace("xmin", "left"), "object 0 of a.xml must have one <xmin>; got 0"),
    ],
)
def test_broken_xml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "a.xml", text), "s2tld")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold a list, or an object with the field 'frames'"),
        ("3", "must hold a list"),
        ("{}", "must have the field 'frames'"),
        ('{"frames": 3}', "must have a list in the field 'frames'"),
        ('{"frames": [], "frames": []}', "must be JSON with distinct keys"),
        ("[1 2]", "must be JSON with , or ] after a value"),
        ("[1,", "must be JSON"),
        ("[1] x", "must be JSON and nothing else"),
        ("[NaN]", "must be JSON; got NaN, which is not finite"),
        ('[{"a": 1, "a": 2}]', "the key 'a' twice"),
        ("[" + "[" * 100_000, "must be JSON; got too many nested lists"),
        ("[" + "9" * 5000 + "]", "a whole number of 5000 digits"),
    ],
)
def test_a_broken_list_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "a.json", text)
    with pytest.raises(ValueError, match=message):
        list(stream_list(path, "file", "frames", may_be_bare=True))


def test_items_over_the_limit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps(["x" * 5_000_000]))
    with pytest.raises(ValueError, match="must have values of at most 1000000 bytes"):
        list(stream_list(path, "file", "frames", may_be_bare=True, max_item_bytes=1_000_000))


def test_a_long_list_is_read_in_the_memory_of_a_few_items(tmp_path: Path) -> None:
    items = [{"index": index, "text": 'é[{\\"' * 20_000} for index in range(80)]
    path = write(tmp_path / "a.json", {"first": {"frames": [1]}, "frames": items, "last": 1.5})
    size = path.stat().st_size
    tracemalloc.start()
    for index, item in enumerate(stream_list(path, "file", "frames", may_be_bare=True)):
        assert item == items[index]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert index == 79 and size > 16_000_000
    assert peak < size / 2  # the window has 1 MiB of text and one item, at 2 bytes a character


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (published.LISA.replace("Annotation tag", "Tag"), "must have the columns"),
        (published.LISA.replace(";478", ""), "line 2 of BOX.csv must have 10 fields; got 9"),
        (published.LISA.replace("706", "inf"), "Upper left corner X of line 2 .* finite number"),
        ("", "must have the columns"),
    ],
)
def test_broken_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "BOX.csv", text), "lisa")


def test_a_bare_list_is_refused_where_the_format_has_an_object(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="file must hold an object with the field 'images'"):
        list(stream_list(path, "file", "images"))
