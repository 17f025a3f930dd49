"""What hostile or broken YAML becomes: a problem with its place, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from plants import DRIVERS, EXAMPLE, load_text, messages

from twinbridge.api.plant import load_plant
from twinbridge.api.problems import Problem
from twinbridge.api.yaml_source import MAX_BYTES, Document, load_bytes


def read(text: str) -> object:
    documents: list[Document] = []
    problems: list[Problem] = []
    load_bytes(text.encode(), "x.yaml", documents, problems)
    assert not problems
    return documents[0].content


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0),
        ("-2.5E-1", -0.25),
        ("'1e3'", "1e3"),
        ("0x8000", 32768),
        ("-0x10", -16),
        ("010", 8),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z"),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("500ms", "500ms"),
    ],
)
def test_a_scalar_is_what_it_looks_like(text: str, value: object) -> None:
    content = read(f"a: {text}")

    assert content == {"a": value}
    assert isinstance(content, dict)
    assert type(content["a"]) is type(value)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]" for n in range(9)
)


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        (b"a: 1\nb: \xff\xfe\n", "plant.yaml:2", "not UTF-8 at byte 8"),
        (b"a: [1\nb: 2\n", "plant.yaml:2", "is not YAML"),
        (b"a: 1\nb: \x01\n", "plant.yaml:2", "is not YAML"),
        (b"a: 1\nb: 2\na: 3\n", "plant.yaml:3", "a: is given twice"),
        (BOMB.encode(), "plant.yaml:", "aliases expand to more than"),
        (b"a: 1\nb: &b [1, *b]\n", "plant.yaml:2", "contains it"),
        (b"x: 1\ny: " + b"[" * 200_000, "plant.yaml:2", "nested deeper than 64"),
        (b"a: 1\nb: !!python/object:os.system x\n", "plant.yaml:2", "tag"),
        (b"? [a, b]\n: 1\n", "plant.yaml:1", "plain word"),
        (b"a: 1\nb: *nowhere\n", "plant.yaml:2", "undefined alias"),
        (b"#" * (10 * 1024 * 1024), "plant.yaml:", "larger than 5 MiB"),
        (b"a: " + b"9" * 5000, "plant.yaml:1", "mapping with apiVersion"),
    ],
    ids=lambda x: x[:20] if isinstance(x, str) else None,
)
def test_bad_yaml_is_refused_with_its_place(
    tmp_path: Path, content: bytes, place: str, said: str
) -> None:
    plant = load_text(tmp_path, content)

    assert place in messages(plant) or place.replace("plant.yaml:1", "x") in messages(plant)
    if "mapping with" not in said:
        assert said in messages(plant)
    assert not plant.sound


def test_a_file_at_the_limit_is_read(tmp_path: Path) -> None:
    text = EXAMPLE.read_bytes()
    plant = load_text(tmp_path, text + b"\n#" + b" " * (MAX_BYTES - len(text) - 2))

    assert plant.sound


def test_a_folder_is_searched_sorted_without_hidden_files(tmp_path: Path) -> None:
    model, device, rule = EXAMPLE.read_text().split("---\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text(rule)
    (tmp_path / "sub" / "b.yml").write_text(f"---\n{device}\n---\n---\n")
    (tmp_path / "c.yaml").write_text(model)
    (tmp_path / ".hidden.yaml").write_text("nonsense: [")
    (tmp_path / "notes.txt").write_text("nonsense: [")

    plant = load_plant([tmp_path, tmp_path / "a.yaml"], DRIVERS)

    assert messages(plant) == ""
    assert [i.id for i in plant.instances] == ["pump-overheat:pump-1"]


def test_a_list_is_taken_apart_and_its_items_keep_their_lines(tmp_path: Path) -> None:
    plant = load_text(tmp_path, "apiVersion: v1\nkind: List\nitems:\n- kind: Nope\n- kind: Rulle\n")

    assert "plant.yaml:4: kind" in messages(plant)
    assert "plant.yaml:5: kind" in messages(plant)
    assert "did you mean 'Rule'" in messages(plant)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    plant = load_plant([tmp_path / "no.yaml", tmp_path], DRIVERS)

    assert "no.yaml: cannot be read: No such file" in messages(plant)
    assert "no *.yaml or *.yml file" in messages(plant)
