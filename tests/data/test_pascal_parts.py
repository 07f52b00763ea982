"""Annotations of human parts as nobody would write them: each is painted by the published rules, or refused."""

from pathlib import Path

import numpy as np
import pytest
from pascal_files import described, write_annotation
from scipy.io import savemat

from atrc_exp.data.readers.pascal import paint_parts
from atrc_exp.errors import UserError

SIZE = (4, 8)
PERSON, DOG = 15, 12
ALL = (0, 8)


def mask(columns: tuple[int, int], size: tuple[int, int] = SIZE, value: float = 1, kind: str = "uint8") -> np.ndarray:
    """Some columns of the image."""
    result = np.zeros(size, kind)
    result[:, slice(*columns)] = value
    return result


def part(name: object, columns: tuple[int, int], **options) -> dict:
    return {"part_name": name, "mask": mask(columns, **options)}


def person(
    *parts: dict, columns: tuple[int, int] = ALL, index: float = PERSON, name: str = "person", **options
) -> dict:
    return described(name, index, mask(columns, **options), list(parts))


HEAD, TORSO, HAND, FOOT = part("head", (0, 4)), part("torso", (2, 6)), part("rhand", (3, 5)), part("lfoot", (6, 8))
NO_PIXELS = (0, 0)

# what is painted in each column: 1 head, 2 torso, 4 lower arm, 6 lower leg
PAINTED = {
    "parts of one person overlap": ([person(HEAD, TORSO)], "11222200"),
    "the same parts the other way round": ([person(TORSO, HEAD)], "11112200"),
    "the parts of the second person lie over those of the first": ([person(TORSO), person(HEAD, FOOT)], "11112266"),
    "a part covers another one wholly": ([person(HAND, TORSO)], "00222200"),
    "a part without pixels": ([person(part("neck", NO_PIXELS), HEAD)], "11110000"),
    "a part twice": ([person(HEAD, TORSO, part("head", (4, 6)))], "11221100"),
    "parts outside of their person's own mask": ([person(HEAD, columns=(7, 8))], "11110000"),
    "a person without pixels beside one with": ([person(HEAD, columns=NO_PIXELS), person()], "11110000"),
    "only people without pixels": ([person(HEAD, columns=NO_PIXELS)], "00000000"),
    "people without parts": ([person(), person()], "00000000"),
    "no objects": ([], "00000000"),
    "unknown parts of animals": ([person(part("beak", ALL), index=DOG, name="dog"), person(HAND)], "00044000"),
    "the index counts, not the name": ([person(HEAD, index=DOG), person(TORSO, name="dog")], "00222200"),
    "masks of 255, of truth values and of fractions": (
        [person(part("head", (0, 2), value=255), part("torso", (2, 4), kind="bool"),
                part("lfoot", (4, 6), value=0.2, kind="float64"), value=255)], "11226600"),
    "an index with a fraction part of 0": ([person(HEAD, index=15.0)], "11110000"),
    "an empty mask of a person beside another": ([person(HEAD, size=(0, 0)), person(FOOT)], "11110066"),
}  # fmt: skip

REFUSED = {
    "unknown part": ([person(HEAD, part("tail", (5, 6)))], "names the part 'tail'"),
    "part in capitals": ([person(part("Head", (0, 4)))], "names the part 'Head'"),
    "part without a name": ([person(part("", (0, 4)))], "names the part"),
    "number as a part's name": ([person(part(7, (0, 4)))], "names the part '7'"),
    "part of another size": ([person(HEAD, part("torso", ALL, size=(4, 7)))], r"a part has shape \(4, 7\), .* 4 x 8"),
    "part turned": ([person(part("torso", (0, 2), size=(8, 4)))], r"a part has shape \(8, 4\)"),
    "person of another size": ([person(HEAD, size=(5, 8))], r"a person has shape \(5, 8\), the image 4 x 8"),
    "index that is none": ([person(HEAD, index="person")], "is no annotation of PASCAL-Part"),
    "numbers instead of parts": ([person() | {"parts": np.ones((1, 3))}], "is no annotation of PASCAL-Part"),
}  # fmt: skip


def painted(tmp_path: Path, objects: list[dict]) -> np.ndarray:
    write_annotation(tmp_path / "anno.mat", objects)
    return paint_parts(tmp_path / "anno.mat", SIZE)


@pytest.mark.parametrize("case", PAINTED)
def test_what_can_be_painted_is_painted_in_the_order_of_the_file(tmp_path, case):
    objects, columns = PAINTED[case]
    found = painted(tmp_path, objects)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [[int(value) for value in columns]] * SIZE[0])


@pytest.mark.parametrize("case", REFUSED)
def test_what_breaks_the_rules_is_one_line_with_the_file(tmp_path, case):
    objects, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as raised:
        painted(tmp_path, objects)
    assert str(raised.value).startswith(str(tmp_path / "anno.mat")) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "words"),
    [({"anno": {"imname": "x"}}, "is no annotation of PASCAL-Part"), ({"anno": 3}, "is no annotation of PASCAL-Part"),
     ({"other": 1}, "holds no variable anno")],
)  # fmt: skip
def test_other_variables_are_no_annotation(tmp_path, variables, words):
    savemat(tmp_path / "anno.mat", variables)
    with pytest.raises(UserError, match=words):
        paint_parts(tmp_path / "anno.mat", SIZE)
