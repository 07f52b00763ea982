"""Rooms with people on disk: the PASCAL layout, read by its reader and a second time with SciPy and PIL."""

from pathlib import Path

import numpy as np
import pytest
import small_rooms
from pascal_oracle import read_labels
from PIL import Image
from scipy.io import loadmat

from atrc_exp.config import DatasetConfig
from atrc_exp.data.readers.datasets import open_dataset
from atrc_exp.data.readers.pascal_classes import CLASS_NAMES, CLASSES_WITH_NORMALS, PART_IDS
from atrc_exp.data.readers.sample import Sample
from atrc_exp.rooms import generate
from atrc_exp.rooms.dataset import sheet
from atrc_exp.rooms.dataset.annotations import VocObject, image_shape, render_people, saliency
from atrc_exp.rooms.plans.classes import CONTEXT_LABELS, CONTEXT_TO_VOC, KINDS, VOC_LABELS

SIZE = (48, 64)
TRAIN, VAL = 8, 2
TASKS = ["semseg", "human_parts", "sal", "normals", "edge"]
PERSON, CHAIR, VOID = 15, 9, 255


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images."""
    root = tmp_path_factory.mktemp("people") / "set"
    generate(root, train=TRAIN, val=VAL, image_size=SIZE, seed=1, packaging="pascal", workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def samples(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    cache = str(tmp_path_factory.mktemp("cache"))
    data = open_dataset(
        DatasetConfig(
            name="people", reader="pascal", root=str(root), tasks=TASKS, num_classes={"semseg": 21}, cache_dir=cache
        )
    )
    assert data.info.counts == {"train": TRAIN, "val": VAL} and data.info.packaging == "voc"
    return [source.load(index, TASKS) for source in (data.train, data.val) for index in range(len(source))]


def annotated(root: Path, id: str) -> list[tuple[str, int, np.ndarray, dict[str, np.ndarray]]]:
    """Class, class number, mask and parts of all objects of a PASCAL-Part file, by position."""
    _, objects = loadmat(root / "human_parts" / f"{id}.mat")["anno"][0, 0]
    rows = objects[0] if objects.size else []
    return [
        (
            row[0].item(),
            int(row[1].item()),
            row[2].astype(bool),
            {p[0].item(): p[1].astype(bool) for p in row[3].ravel()},
        )
        for row in rows
    ]


def test_layout(root):
    ids = [f"2010_{number:06d}" for number in range(1, TRAIN + VAL + 1)]
    assert (root / "ImageSets/Context/train.txt").read_text().split() == ids[:TRAIN]
    assert (root / "ImageSets/Context/val.txt").read_text().split() == ids[TRAIN:]
    kinds = {"JPEGImages": "jpg", "normals_distill": "png", "sal_distill": "png", "semseg/VOC12": "png",
             "semseg/pascal-context": "png", "pascal-context/trainval": "mat", "human_parts": "mat"}  # fmt: skip
    for folder, suffix in kinds.items():
        assert sorted(path.name for path in (root / folder).iterdir()) == [f"{id}.{suffix}" for id in ids]
    voc = Image.open(root / "semseg/VOC12" / f"{ids[0]}.png")
    assert voc.mode == "P"
    palette = np.array(voc.getpalette()).reshape(-1, 3)
    assert palette[[0, 1, 8, PERSON, VOID]].tolist() == [
        [0, 0, 0], [128, 0, 0], [64, 0, 0], [192, 128, 128], [224, 224, 192]
    ]  # fmt: skip


def test_reader_agrees_with_a_second_reading(root, samples):
    for sample in samples:
        expected = read_labels(root, sample.id, list(CLASSES_WITH_NORMALS))
        for task in TASKS:
            np.testing.assert_allclose(sample.labels[task], expected[task], atol=1e-6, err_msg=f"{sample.id} {task}")


def test_files_hold_what_was_rendered(root, samples):
    for index in (0, 3):
        rendered, sample = render_people(1, index, SIZE), samples[index]
        assert np.array_equal(rendered.voc, sample.labels["semseg"])
        assert np.abs(sample.image.astype(int) - rendered.image).mean() < 8
        valid = sample.labels["normals"].any(-1)
        assert np.array_equal(valid, np.isin(rendered.context, CLASSES_WITH_NORMALS)) and valid.mean() > 0.4
        np.testing.assert_allclose(sample.labels["normals"][valid], rendered.normals[valid], atol=1 / 255 + 1e-6)


def test_bytes_do_not_depend_on_the_other_rooms(root, tmp_path):
    generate(tmp_path / "few", train=1, val=1, image_size=SIZE, seed=1, packaging="pascal", workers=1, progress=False)
    few = list((tmp_path / "few").rglob("2010_*"))
    assert len(few) == 2 * 7
    for path in few:
        assert path.read_bytes() == (root / path.relative_to(tmp_path / "few")).read_bytes()


def test_objects_agree_with_semantics(root, samples):
    parts_seen, people, sides = set(), [], set()
    for sample in samples:
        context = loadmat(root / "pascal-context/trainval" / f"{sample.id}.mat")["LabelMap"]
        semseg, parts = sample.labels["semseg"], sample.labels["human_parts"]
        sides.add(np.sign(semseg.shape[0] - semseg.shape[1]))
        assert max(semseg.shape) == SIZE[1] and set(np.unique(semseg)) <= {0, *VOC_LABELS.tolist(), VOID}
        for name, number, mask, named in annotated(root, sample.id):
            assert CLASS_NAMES[number] == name and set(np.unique(semseg[mask])) <= {number, VOID}
            assert all((part & ~mask).sum() == 0 for part in named.values())
            if number == PERSON:
                people.append(bool(named))
                parts_seen |= set(named)
                assert not named or np.array_equal(np.any(list(named.values()), axis=0), mask)
        assert (context[parts > 0] == KINDS["person"].context).all()
        fallback = np.array(Image.open(root / "semseg/pascal-context" / f"{sample.id}.png"))
        assert np.array_equal(fallback, CONTEXT_TO_VOC[context])
    assert len(people) >= 6 and any(people) and sides == {-1, 1}
    assert len(parts_seen) >= 16 and parts_seen <= set(PART_IDS)
    assert any((sample.labels["normals"] == 0).all(-1).any() for sample in samples)  # classes without normals
    without = [s for s in samples if not (s.labels["semseg"] == PERSON).any()]
    assert without and not any(s.labels["human_parts"].any() for s in without)


def test_void_lies_between_classes(samples):
    for sample in samples:
        semseg = sample.labels["semseg"].astype(int)
        for here, there in ((semseg[:, 1:], semseg[:, :-1]), (semseg[1:], semseg[:-1])):
            assert ((here == there) | (here == VOID) | (there == VOID)).all()
        assert (semseg == VOID).mean() < 0.25


def test_size_and_orientation_depend_on_the_number_only():
    shapes = [image_shape(0, index, (375, 500)) for index in range(200)]
    assert {max(shape) for shape in shapes} == {500} and {min(shape) for shape in shapes} == {375, 333}
    portrait = [height > width for height, width in shapes]
    assert 0.2 < np.mean(portrait) < 0.4
    small = [image_shape(0, index, (72, 96)) for index in range(200)]
    assert [height > width for height, width in small] == portrait


def test_a_room_has_one_view_at_every_size():
    coarse, fine = render_people(0, 4, (24, 32)), render_people(0, 4, (72, 96))
    assert np.array_equal(coarse.context, fine.context[1::3, 1::3])
    assert not np.array_equal(coarse.context, render_people(1, 4, (24, 32)).context)


def box(voc: int, rows: slice, columns: slice) -> VocObject:
    mask = np.zeros((60, 80), bool)
    mask[rows, columns] = True
    return VocObject(voc, mask, {})


def test_saliency_prefers_large_central_and_living_things():
    centre, corner, size = (slice(20, 40), slice(30, 50)), (slice(0, 20), slice(0, 20)), (60, 80)
    assert not saliency([], size).any()
    for first, second in (
        (box(CHAIR, *centre), box(CHAIR, *corner)),
        (box(PERSON, *corner), box(CHAIR, slice(40, 60), slice(60, 80))),
        (box(CHAIR, slice(20, 40), slice(30, 50)), box(CHAIR, slice(20, 30), slice(52, 62))),
    ):
        values = saliency([first, second], size)
        assert (values[first.mask] == 255).all() and 0 < values[second.mask].max() < 255
        assert not values[~(first.mask | second.mask)].any()
    twice = saliency([box(PERSON, *centre), box(CHAIR, slice(20, 40), slice(10, 30))], size)
    assert twice[30, 20] < 128  # half the weight at most: not salient


def test_kinds_have_the_published_context_classes():
    published = {"bicycle": 23, "bottle": 34, "cat": 65, "chair": 72, "diningtable": 397, "dog": 113, "person": 284,
                 "pottedplant": 308, "sofa": 368, "tvmonitor": 427}  # fmt: skip
    found = {(CLASS_NAMES[voc], int(context)) for voc, context in zip(VOC_LABELS, CONTEXT_LABELS, strict=True) if voc}
    assert found == set(published.items())
    assert set(np.isin(CONTEXT_LABELS, CLASSES_WITH_NORMALS)) == {True, False}


def test_contact_sheet_and_presets(root, tmp_path):
    sheet.main([str(tmp_path / "sheet.png"), "--root", str(root), "--packaging", "pascal", "--rows", "2"])
    width, height = Image.open(tmp_path / "sheet.png").size
    assert width > height > 100
    config = small_rooms.as_typed("+experiment=rooms_people_hrnet18_search")
    assert config.dataset.reader == "pascal" and config.dataset.rooms.packaging == "pascal"
    assert config.dataset.crop == [max(config.dataset.rooms.image_size)] * 2 and config.dataset.tasks == TASKS
