"""The kinds of labels, one file each; the rest of the package asks the kind's object here."""

from atrc_exp.tasks.kinds.binary import Binary
from atrc_exp.tasks.kinds.classes import Classes
from atrc_exp.tasks.kinds.depth import Depth
from atrc_exp.tasks.kinds.disparity import Disparity
from atrc_exp.tasks.kinds.kind import Kind
from atrc_exp.tasks.kinds.normals import Normals
from atrc_exp.tasks.kinds.regression import Regression

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (Classes(), Binary(), Depth(), Disparity(), Normals(), Regression())
}
