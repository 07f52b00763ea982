"""What things are: the 40 classes of NYUD-v2, and for every kind of thing its class in NYUD, VOC and PASCAL-Context.

Builders name what they make by kind, which is as fine as the finest of the three needs: a coffee table is a table in
NYUD and PASCAL-Context, but VOC's dining tables are "only tables for eating at".
"""

from dataclasses import dataclass

import numpy as np

from atrc_exp.data.readers.pascal_classes import CLASS_NAMES as VOC_NAMES
from atrc_exp.data.readers.pascal_classes import CONTEXT_CLASSES, PART_IDS

# fmt: off
CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door",
    "window", "bookshelf", "picture", "counter", "blinds", "desk", "shelves", "curtain",
    "dresser", "pillow", "mirror", "floor_mat", "clothes", "ceiling", "books", "refrigerator",
    "television", "paper", "towel", "shower_curtain", "box", "whiteboard", "person", "night_stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)
"""NYUD's classes in their published order; stored label = position + 1, 0 = unlabelled."""
STORED = {name: position + 1 for position, name in enumerate(CLASSES)} | {"unlabelled": 0}
# fmt: on

VOC = {name: number for number, name in enumerate(VOC_NAMES)}

_UNKNOWN = 431  # PASCAL-Context's "unknown": things without a class of their own


@dataclass(frozen=True)
class Kind:
    """What a thing is in the three sets of classes: NYUD 0 to 40, VOC 0 to 20, PASCAL-Context 1 to 459."""

    nyud: int
    voc: int
    context: int


# PASCAL-Context has no blinds, desks, bookshelves, dressers or night stands: they take the nearest class
# fmt: off
_CONTEXT = {
    "wall": 440, "floor": 158, "cabinet": 46, "bed": 18, "chair": 72, "sofa": 368, "table": 397, "door": 115,
    "window": 454, "bookshelf": 349, "picture": 287, "counter": 96, "blinds": 105, "desk": 397, "shelves": 349,
    "curtain": 105, "dresser": 46, "pillow": 290, "mirror": 252, "floor_mat": 330, "clothes": 80, "ceiling": 68,
    "books": 33, "television": 427, "paper": 273, "towel": 412, "shower_curtain": 105, "box": 37, "whiteboard": 30,
    "person": 284, "night_stand": 46, "toilet": 408, "sink": 357, "lamp": 232, "bathtub": 17, "bag": 9,
}
# fmt: on
_VOC = {"chair": "chair", "sofa": "sofa", "television": "tvmonitor", "person": "person"}

KINDS: dict[str, Kind] = {
    name: Kind(stored, VOC.get(_VOC.get(name, ""), 0), _CONTEXT.get(name, _UNKNOWN)) for name, stored in STORED.items()
} | {
    "stool": Kind(STORED["chair"], 0, 383),
    "diningtable": Kind(STORED["table"], VOC["diningtable"], 397),
    "monitor": Kind(STORED["otherprop"], VOC["tvmonitor"], 427),
    "bottle": Kind(STORED["otherprop"], VOC["bottle"], 34),
    "pottedplant": Kind(STORED["otherprop"], VOC["pottedplant"], 308),
    "cat": Kind(STORED["otherprop"], VOC["cat"], 65),
    "dog": Kind(STORED["otherprop"], VOC["dog"], 113),
    "bicycle": Kind(STORED["otherprop"], VOC["bicycle"], 23),
}
NUMBERS = {name: number for number, name in enumerate(KINDS)}
NYUD_LABELS = np.array([kind.nyud for kind in KINDS.values()], np.uint8)
VOC_LABELS = np.array([kind.voc for kind in KINDS.values()], np.uint8)
CONTEXT_LABELS = np.array([kind.context for kind in KINDS.values()], np.uint16)
CONTEXT_TO_VOC = np.zeros(CONTEXT_CLASSES + 1, np.uint8)
np.maximum.at(CONTEXT_TO_VOC, CONTEXT_LABELS, VOC_LABELS)

# fmt: off
_ANIMAL_PARTS = (
    "head", "lear", "rear", "leye", "reye", "nose", "muzzle", "neck", "torso", "tail",
    "lfleg", "rfleg", "lbleg", "rbleg", "lfpa", "rfpa", "lbpa", "rbpa",
)
# fmt: on
PARTS = ("", *dict.fromkeys((*PART_IDS, *_ANIMAL_PARTS)))
"""Parts of people, and of cats and dogs (legs and paws left or right, front or back), named as in PASCAL-Part."""
PART_NUMBERS = {name: number for number, name in enumerate(PARTS)}
