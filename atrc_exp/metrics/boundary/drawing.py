"""The figure of boundary scores; needs matplotlib, which scoring does not."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .scores import BoundaryScores

_ISO_F = (0.2, 0.4, 0.6, 0.8)


def draw_boundary(scores: BoundaryScores, title: str) -> Figure:
    """Draw precision, recall and F over the threshold, and precision against recall with the point of odsF."""
    curve = scores.curve
    assert curve is not None
    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for values, name, style in (
        (curve.precision, "precision", "--"),
        (curve.recall, "recall", ":"),
        (curve.f, "F", "-"),
    ):
        left.plot(curve.threshold, values, style, color="black" if name == "F" else "tab:blue", label=name)
    left.axvline(scores.threshold, color="tab:red", linewidth=0.8)
    left.plot(scores.threshold, scores.odsF, "o", color="tab:red", label=f"odsF {100 * scores.odsF:.2f} % "
              f"at {scores.threshold:.3g}")  # fmt: skip
    left.set(xlim=(0, 1), ylim=(0, 1), xlabel="threshold")
    left.legend(fontsize=8, framealpha=0.9)
    _iso_lines(right)
    # Where nothing is predicted precision is 1 by definition; those points would close the curve by a false line.
    points = [(r, p) for r, p in zip(curve.recall, curve.precision, strict=True) if r > 0]
    if points:
        right.plot(*zip(*points, strict=True), color="black")
    else:
        right.text(0.5, 0.5, "no boundary is found", ha="center", va="center", color="0.4", backgroundcolor="white")
    right.plot(scores.recall, scores.precision, "o", color="tab:red")
    right.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", aspect="equal")
    measures = ", ".join(f"{key} {100 * getattr(scores, key):.2f} %" for key in ("odsF", "oisF", "AP"))
    rules = f"{scores.protocol}, {scores.max_dist:g} of the diagonal, {scores.images} images"
    figure.suptitle(f"{title}: {measures} ({rules})", fontsize=10)
    return figure


def _iso_lines(axes: Axes) -> None:
    """Draw lines of equal F in the plane of recall and precision."""
    for f in _ISO_F:
        recall = np.linspace(f / (2 - f), 1, 400)
        axes.plot(recall, f * recall / (2 * recall - f), color="0.8", linewidth=0.8, zorder=0)
        axes.text(1.01, f / (2 - f), f"F {f:g}", color="0.5", fontsize=7, va="center", clip_on=False)
