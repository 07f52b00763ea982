"""Signs that files are not what they are taken for, found while they are scored."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..counts import boundary_mask, count
from ..protocols import Protocol
from ..scores import table_of

_THIN = 0.8  # share of its pixels that thinning leaves of a line one pixel wide, corners and crossings allowed for

# One text for each kind; {n} is how many files of {of} show it, {example} the first of them.
TEXTS = {
    "inverted": "{n} of the {of} predictions looked at score better when inverted (such as {example}); boundaries must "
    "be bright",
    "binary": "{n} of {of} predictions hold two values only (such as {example}); every threshold then counts the same, "
    "so write probabilities, not decisions",
    "dark": "{n} of {of} predictions are at most 1 of 255 (such as {example}); multiply probabilities by 255 before "
    "writing 8-bit files",
    "jpeg": "{n} of {of} predictions are JPEG files under another name (such as {example}); its artefacts add false "
    "boundaries at low thresholds",
    "grey_truth": "{n} of {of} ground truths hold other values than 0 and 1, or 0 and 255 (such as {example}); every "
    "value but 0 and 255 counts as boundary",
    "thick_truth": "{n} of {of} ground truths are wider than one pixel (such as {example}), and the protocol does "
    "not thin them; thin them before, or recall counts every pixel of the width",
    "empty_truth": "{n} of {of} ground truths have no boundary at all (such as {example})",
}


def doubts_about(
    path: Path,
    prediction: NDArray[Any],
    truth: NDArray[Any] | list[NDArray[Any]],
    protocol: Protocol,
    invert_within: float | None,
) -> list[str]:
    """Look for signs that one image, which `count` takes, is not what it is taken for; returns keys of `TEXTS`.

    Args:
        path: file of the prediction.
        invert_within: the `max_dist` with which the complement of the prediction is scored, too; None leaves that out.
    """
    from ..kernels.thinning import thin  # numba takes a while to load

    found = []
    with path.open("rb") as file:
        if file.read(3) == b"\xff\xd8\xff":
            found.append("jpeg")
    values = np.unique(prediction)
    if np.issubdtype(prediction.dtype, np.integer) and values[-1] == 1:
        found.append("dark")
    elif len(values) <= 2 and values[-1] > 0:
        found.append("binary")
    masks = truth if isinstance(truth, list) else [truth]
    if any(np.setdiff1d(np.unique(mask), (0, 1, 255)).size for mask in masks):
        found.append("grey_truth")
    boundaries = [boundary_mask(mask) for mask in masks]
    if not any(mask.any() for mask in boundaries):
        found.append("empty_truth")
    elif invert_within is not None and "dark" not in found and _inverted(prediction, masks, invert_within, protocol):
        found.append("inverted")
    if not protocol.thin_truth and any(thin(mask).sum() < _THIN * mask.sum() for mask in boundaries):
        found.append("thick_truth")
    return found


def _inverted(prediction: NDArray[Any], masks: list[NDArray[Any]], max_dist: float, protocol: Protocol) -> bool:
    """Tell whether the complement has the higher F at the best of a few thresholds."""
    few = replace(protocol, thresholds=tuple(i / 10 for i in range(1, 10)), suppress=True)
    top = np.iinfo(prediction.dtype).max if np.issubdtype(prediction.dtype, np.integer) else 1
    complement = (top - prediction).astype(prediction.dtype)
    best = [table_of([count(p, masks, max_dist=max_dist, protocol=few)]).f().max() for p in (prediction, complement)]
    return bool(best[1] > best[0])
