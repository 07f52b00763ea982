"""Parts of a split: the training images divided between the weights and the architecture of a search."""

from collections.abc import Sequence

import numpy as np

from atrc_exp.data.readers.sample import Sample, Source
from atrc_exp.errors import UserError

_DIVISION = 2  # first element of the seed: keeps the division apart from the loader's random numbers


class Part:
    """Some images of a split, read like a split of their own."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source, self.indices = source, list(indices)
        self.ids, self.info = [source.ids[index] for index in self.indices], source.info

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int, tasks: Sequence[str]) -> Sample:
        """Decode image `index` of this part and the labels of `tasks` only."""
        return self.source.load(self.indices[index], tasks)


def divide(source: Source, share: float, seed: int) -> tuple[Part, Part]:
    """Divide a split at random into the part with about `share` of the images and the rest; the same for a seed.

    Raises:
        UserError: one of the parts would be empty.
    """
    count = round(share * len(source))
    if not 0 < count < len(source):
        raise UserError(f"a share of {share} of {len(source)} training images leaves nothing on one side")
    order = np.random.default_rng((_DIVISION, seed)).permutation(len(source)).tolist()
    return Part(source, order[:count]), Part(source, order[count:])
