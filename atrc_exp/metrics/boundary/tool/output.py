"""What the command shows and writes: table, warnings, JSON, CSV, plot and overlays."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as ShownTable

from ..counts import match
from ..scores import BoundaryScores, table_of
from .doubts import TEXTS
from .folders import LOOKED_AT, Rules, load
from .overlays import draw_overlay, write_overlay
from .pairing import Pair
from .records import Record


def warnings_about(pairs: Sequence[Pair], found: Mapping[str, Record], extra: int) -> list[str]:
    """Return a sentence for each kind of doubt that some file raises; `extra` predictions have no ground truth."""
    kinds = Counter(kind for record in found.values() for kind in record.doubts)
    warnings = []
    for kind, text in TEXTS.items():
        of = min(LOOKED_AT, len(pairs)) if kind == "inverted" else len(pairs)
        # A poor map may score better inverted by chance; most of them do not.
        if kinds[kind] > (of // 2 if kind == "inverted" else 0):
            example = next(pair.name for pair in pairs if kind in found[pair.name].doubts)
            warnings.append(text.format(n=kinds[kind], of=of, example=example))
    if extra:
        warnings.append(f"predictions without a ground truth do not count: {extra} of {extra + len(pairs)}")
    return warnings


def show(scores: BoundaryScores, warnings: Sequence[str]) -> None:
    """Print the scores in percent, and the warnings to the error output."""
    output = Console()
    table = ShownTable(title=f"{scores.images} images, {scores.protocol}, max_dist {scores.max_dist:g}")
    cells = {
        "ODS": f"{100 * scores.odsF:.2f}", "OIS": f"{100 * scores.oisF:.2f}", "AP": f"{100 * scores.AP:.2f}",
        "R50": f"{100 * scores.R50:.2f}", "threshold": f"{scores.threshold:.3g}",
        "precision": f"{100 * scores.precision:.2f}", "recall": f"{100 * scores.recall:.2f}",
    }  # fmt: skip
    for heading in cells:
        table.add_column(heading, justify="right")
    table.add_row(*cells.values())
    output.print(table)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def write(
    out: Path,
    pairs: Sequence[Pair],
    found: Mapping[str, Record],
    scores: BoundaryScores,
    warnings: Sequence[str],
    rules: Rules,
    overlays: int,
) -> None:
    """Write scores.json, images.csv, thresholds.csv, curve.png, and overlays of the best and worst images."""
    protocol = rules.protocol
    record = {
        **scores.as_dict(),
        "nms": protocol.multiplier if protocol.suppress else None,
        "partition": rules.partition,
        "warnings": list(warnings),
    }
    _write_text(out / "scores.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    _write_text(out / "thresholds.csv", scores.curve_csv())
    table = table_of([found[pair.name].counts for pair in pairs])
    (precision, recall), f = table.precision_recall(), table.f()
    best = np.argmax(f, axis=1)
    nearest = int(np.argmin(np.abs(np.array(protocol.thresholds) - scores.threshold)))
    rows = ["image,best_threshold,precision,recall,f,f_at_ods_threshold"]
    for i, pair in enumerate(pairs):
        at = (i, best[i])
        numbers = (protocol.thresholds[best[i]], *map(float, (precision[at], recall[at], f[at], f[i, nearest])))
        rows.append(",".join((_quoted(pair.name), *map(repr, numbers))))
    _write_text(out / "images.csv", "\n".join(rows) + "\n")
    _plot(out / "curve.png", scores)
    order = np.argsort(f[:, nearest], kind="stable")
    shown = min(overlays, len(pairs))
    _overlays(out, "worst", [pairs[i] for i in order[:shown]], rules, protocol.thresholds[nearest])
    _overlays(out, "best", [pairs[i] for i in order[::-1][:shown]], rules, protocol.thresholds[nearest])
    print(f"written: {out}")


def _overlays(out: Path, side: str, pairs: Sequence[Pair], rules: Rules, threshold: float) -> None:
    for rank, pair in enumerate(pairs, 1):
        prediction, truth = load(pair, rules)
        masks = match(prediction, truth, threshold, max_dist=rules.max_dist, protocol=rules.protocol)
        title = f"{side} {rank}: {pair.name} at threshold {threshold:g}"
        path = out / "overlays" / f"{side}_{rank}_{pair.name.replace('/', '_')}.png"
        write_overlay(path, draw_overlay(prediction, *masks, title))


def _plot(path: Path, scores: BoundaryScores) -> None:
    try:
        from ..drawing import draw_boundary
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("matplotlib"):
            raise
        print("no plot: matplotlib is not installed (pip install matplotlib)", file=sys.stderr)
        return
    draw_boundary(scores, "Boundaries").savefig(path, dpi=150)


def _write_text(path: Path, text: str) -> None:
    """Write a whole file or leave the old one."""
    temporary = path.with_name(f".{path.name}.unfinished")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name
