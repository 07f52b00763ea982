"""Branchings: rules, decoding by worked examples, files."""

import json

import pytest

from atrc_exp.bmtas.tree import FILE_NAME, Branching, load, refine, save
from atrc_exp.errors import UserError

TASKS = ("semseg", "depth", "normals", "edge")


def branching(*layers: str, **details: object) -> Branching:
    rows = {f"layer{n}": tuple(tuple(g.split()) for g in text.split("|")) for n, text in enumerate(layers, 1)}
    return Branching(TASKS, rows, details)


def test_decoding_splits_by_choice_and_never_merges_again():
    """In layer 3 all choose copy 2 again, and in layer 2 normals returns to semseg's copy: both stay apart."""
    decoded = refine(TASKS, {"layer1": (0, 0, 0, 0), "layer2": (1, 1, 3, 0), "layer3": (2, 2, 2, 2),
                             "layer4": (1, 0, 1, 1)})  # fmt: skip
    assert decoded == {
        "layer1": (("semseg", "depth", "normals", "edge"),),
        "layer2": (("semseg", "depth"), ("normals",), ("edge",)),
        "layer3": (("semseg", "depth"), ("normals",), ("edge",)),
        "layer4": (("semseg",), ("depth",), ("normals",), ("edge",)),
    }
    assert Branching(TASKS, decoded).parents("layer4") == [0, 0, 1, 2]


def test_equal_copies_of_tasks_that_split_before_do_not_join_them():
    decoded = refine(("a", "b", "c"), {"x": (0, 1, 0), "y": (2, 2, 2)})
    assert decoded == {"x": (("a", "c"), ("b",)), "y": (("a", "c"), ("b",))}


def test_first_layer_hangs_on_the_stem():
    assert branching("semseg edge | depth | normals").parents("layer1") == [0, 0, 0]


def test_file_is_one_readable_line_a_layer_and_comes_back(tmp_path):
    written = branching("semseg depth normals edge", "semseg edge | depth normals", gflops={"shared": 2.5})
    save(written, tmp_path / FILE_NAME)
    content = json.loads((tmp_path / FILE_NAME).read_text())
    assert content["version"] == 1
    assert content["layers"] == {"layer1": "semseg depth normals edge", "layer2": "semseg edge | depth normals"}
    assert load(tmp_path) == load(tmp_path / FILE_NAME) == written
    assert load(tmp_path).details == {"gflops": {"shared": 2.5}}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["semseg depth normals"], "layer1: .* must name each of semseg, depth, normals, edge once"),
        (["semseg depth normals edge sal"], "must name each"),
        (["semseg semseg | depth normals edge"], "must name each"),
        (["semseg depth | normals edge", "semseg depth normals edge"], "layer2: .* had split before"),
        (["semseg depth | normals edge", "semseg edge | depth | normals"], "semseg, edge had split before"),
        ([], "at least one layer"),
    ],
)
def test_what_is_no_tree_is_refused(layers, message):
    with pytest.raises(UserError, match=message):
        branching(*layers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "JSON object"),
        ('{"version": 2}', "version 2 is unknown"),
        ('{"version": 1, "tasks": ["a"]}', "cannot be read as a branching"),
        ('{"version": 1, "tasks": ["a", "b"], "layers": {"x": "a"}}', "x: 'a' must name each of a, b once"),
    ],
)
def test_files_that_hold_something_else_are_named(tmp_path, content, message):
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert FILE_NAME in str(caught.value)


def test_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"branching\.json .*give "):
        load(tmp_path)
