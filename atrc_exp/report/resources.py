"""The resource columns of Table 1, ours beside the paper's: `python -m atrc_exp.report.resources [--out FOLDER]`.

Parameters and multiply-adds of every network of the table, NYUD-v2 with HRNet18 at 425 x 560, counted by the paper's
convention (`models/profile.py`). The convention is inferred from the table, and so is what the column "inferred" names;
2 % of the multiply-adds of the label contexts stay unexplained.

`--benchmark FILE` puts the seconds of a training step and the peak memory beside them, as one run of `stage=benchmark`
with `benchmark.against` measured them for these networks, at any image size.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atrc_exp.config import Config
from atrc_exp.config.compose import composed
from atrc_exp.files import print_any_text, read_json, write_json, write_text
from atrc_exp.models.distillation import DISTILLATIONS
from atrc_exp.models.profile import Part, profile_of
from atrc_exp.report.paper.published import TABLE_1, Published
from atrc_exp.report.results.sheet import GAP, Sheet, plain

_LABELS = "one more product of label regions and features would explain the difference"
_NOTES = {
    "single_task": "sum of four rounded numbers in the paper",
    **dict.fromkeys(("tlabel", "slabel", "atrc"), _LABELS),
}
"""What is inferred of a count, or unexplained, by preset."""


@dataclass(frozen=True)
class Row:
    """One network: the paper's numbers and ours."""

    published: Published
    distillation: str
    ours: Part
    measured: Mapping[str, Any] | None = None
    """This network in a benchmark.json; None where it was not measured."""

    @property
    def inferred(self) -> str:
        """What is inferred of the module or of its count; empty where nothing is."""
        on_count = _NOTES.get(self.published.preset or "")
        return "; ".join(filter(None, (DISTILLATIONS[self.distillation].inferred, on_count)))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        parameters, multiply_adds = _printed(self.published)
        published = {"parameters": parameters * 1e6, "multiply_adds": multiply_adds * 1e9}
        return {"title": self.published.title, "preset": _preset(self.published), "distillation": self.distillation,
                "parameters": self.ours.parameters, "multiply_adds": self.ours.paper,
                "multiply_adds_computed": self.ours.multiply_adds + self.ours.local_attention,
                "seconds_per_step": self.measured and self.measured["seconds"]["step"],
                "peak_memory_mib": self.measured and self.measured["peak_memory_mib"],
                "published": published, "inferred": self.inferred}  # fmt: skip


def _printed(published: Published) -> tuple[float, float]:
    """Parameters in 10^6 and multiply-adds in 10^9, which every row of the table has."""
    assert published.parameters is not None and published.multiply_adds is not None
    return published.parameters, published.multiply_adds


def _preset(published: Published) -> str:
    return f"nyud_hrnet18_{published.preset}"


def measure(published: Published) -> Row:
    """Count the network of a row, for the single-task baseline the sum over its networks."""
    config = _compose(_preset(published))
    if published.preset != "single_task":
        return Row(published, config.distillation.name, profile_of(config).total)
    parts = (profile_of(replace(config, tasks=[task])).total for task in config.dataset.tasks)
    return Row(published, config.distillation.name, sum(parts, Part(0, 0, 0, 0)))


def _compose(preset: str) -> Config:
    overrides = [f"+experiment={preset}", "stage=profile"]
    if preset.endswith("_atrc"):
        overrides.append("genotype=published/nyud_hrnet18")
    return composed(overrides)


def to_markdown(rows: Sequence[Row]) -> str:
    """The table; with columns of measured time and memory where any row has them."""
    measured = ["step [s]", "memory [MiB]"] if any(row.measured for row in rows) else []
    header = ["Distillation module", "Params ours [M]", "paper", "MAdds ours [G]", "paper", "difference", *measured]
    lines = []
    for row in rows:
        ours, (parameters_printed, published) = row.ours.paper / 1e9, _printed(row.published)
        parameters = f"{row.ours.parameters / 1e6:.3f}", f"{parameters_printed:.2f}"
        difference = f"{100 * (ours / published - 1):+.2f} %"
        cells = [row.published.title, *parameters, f"{ours:.3f}", f"{published:.2f}", difference]
        if row.measured:
            cells += [f"{row.measured['seconds']['step']:.3f}", f"{row.measured['peak_memory_mib']:.0f}"]
        else:
            cells += [GAP] * len(measured)
        lines.append([*cells, row.inferred])
    align = f"l{'r' * (len(header) - 1)}l"
    return Sheet("resources", "", (*header, "inferred"), plain(lines), align=align).to_markdown()


def _network(row: Mapping[str, Any]) -> tuple[str, int]:
    """What tells the networks of a benchmark.json apart: the distillation module and the number of parameters."""
    return row["network"].split(", ")[1], row["parameters"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write `resources.md` and `resources.json`."""
    print_any_text()
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.resources", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of resources.md and resources.json")
    parser.add_argument("--benchmark", type=Path, help="benchmark.json of one run over networks of the table")
    options = parser.parse_args(arguments)
    out, measured = options.out, {}
    if options.benchmark:
        measured = {_network(row): row for row in read_json(options.benchmark)["configurations"]}
    counted = [measure(published) for published in TABLE_1.rows]
    rows = [replace(row, measured=measured.get((row.distillation, row.ours.parameters))) for row in counted]
    print(to_markdown(rows), end="")
    write_text(out / "resources.md", to_markdown(rows))
    write_json(out / "resources.json", {"version": 1, "input": [1, 3, 425, 560], "rows": [r.as_dict() for r in rows]})
    print(f"written: {out}/resources.md, resources.json")


if __name__ == "__main__":
    main()
