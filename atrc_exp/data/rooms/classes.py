"""The 40 classes of NYUD-v2 in their published order; stored label = position + 1, 0 = unlabelled."""

# fmt: off
CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door",
    "window", "bookshelf", "picture", "counter", "blinds", "desk", "shelves", "curtain",
    "dresser", "pillow", "mirror", "floor_mat", "clothes", "ceiling", "books", "refrigerator",
    "television", "paper", "towel", "shower_curtain", "box", "whiteboard", "person", "night_stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)
# fmt: on

STORED = {name: position + 1 for position, name in enumerate(CLASSES)} | {"unlabelled": 0}
