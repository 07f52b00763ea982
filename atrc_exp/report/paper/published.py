"""The tables of the paper as data: Tables 1-5, B-1, D-1, E-1, F (the text of App. F) and G-1.

Numbers are kept as printed, in per cent, metres and degrees; `-` stands where the paper prints none. Fig. D-1 draws its
values without printing them; those of its regressions stand in Table 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

ITERATIONS = 40_000
SEEDS = 5


@dataclass(frozen=True)
class Published:
    """One row, and the preset that repeats it."""

    title: str
    preset: str | None
    """Preset after dataset and backbone, `{task}` in it where each task has its own; None for numbers of others."""
    means: str
    """Means in the order of the table's tasks."""
    delta: str = "-"
    """Δm in per cent."""
    stds: str = ""
    """Standard deviations in the order of the tasks; empty where the table has none."""
    parameters: float | None = None
    """In 10^6."""
    multiply_adds: float | None = None
    """In 10^9."""
    backbone: str = "hrnet18"
    runs: str | None = None
    """Name of the runs after dataset and backbone, where it is not the preset's."""
    distillation: str = "none"
    """Module of the runs."""
    needs: tuple[str, ...] = ()
    """Presets, after dataset and backbone, whose runs come first: searches."""

    def run_names(self, dataset: str, tasks: Sequence[str]) -> dict[str, str]:
        """Name of the runs that predict each task: one for all, or one a task."""
        form = f"{dataset}_{self.backbone}_{self.runs or self.preset}"
        return {task: form.format(task=task) for task in tasks} if self.preset else {}

    @property
    def is_classification(self) -> bool:
        """Whether the runs predict regression tasks as classifications (App. D)."""
        return self.preset is not None and self.preset.endswith("_classification")


@dataclass(frozen=True)
class Table:
    """One table of scores."""

    number: str
    subject: str
    network: str
    dataset: str
    tasks: tuple[str, ...]
    rows: tuple[Published, ...]
    part: bool = False
    """It is about these tasks only, not about all of a dataset."""
    note: str = ""

    def on(self, backbone: str) -> "Table":
        """The same rows on one backbone, about which the paper prints nothing."""
        return replace(self, network=backbone, rows=tuple(replace(row, backbone=backbone) for row in self.rows))

    def means(self, row: Published) -> Mapping[str, str]:
        """Mean by task as printed."""
        return dict(zip(self.tasks, row.means.split(), strict=True))

    def stds(self, row: Published) -> Mapping[str, str]:
        """Standard deviation by task as printed; empty where the table has none."""
        return dict(zip(self.tasks, row.stds.split(), strict=True)) if row.stds else {}


@dataclass(frozen=True)
class Reliability:
    """Agreement of repeated searches (App. F)."""

    title: str
    preset: str
    agreement: str
    """Agreeing choices over all pairs of runs, in per cent."""
    kappa: str
    """Light's kappa."""
    backbone: str = "hrnet18"
    dataset: str = "nyud"


TITLES = {"nyud": "NYUD-v2", "pascal": "PASCAL-Context"}
NYUD = ("semseg", "depth", "normals", "edge")
PASCAL = ("semseg", "human_parts", "sal", "normals", "edge")

_SINGLE = Published("None (single task baseline)", "single_task", "38.02 0.6104 20.94 76.22", "0.00",
                    "0.14 0.0041 0.08 0.07", 16.09, 40.93, runs="single_task_{task}")  # fmt: skip
_MULTI = Published("None (multi-task baseline)", "multi_task", "36.35 0.6284 21.02 76.36", "-1.89",
                   "0.26 0.0034 0.06 0.05", 4.52, 17.59)  # fmt: skip
_ATRC = Published("ATRC", "atrc", "38.90 0.6010 20.48 76.34", "1.56",
                  "0.43 0.0046 0.02 0.12", 5.06, 25.76, distillation="atrc", needs=("search",))  # fmt: skip


def _again(row: Published, title: str) -> Published:
    """The same row in a table without deviations and resources."""
    return replace(row, title=title, stds="", parameters=None, multiply_adds=None)


def _same_rows(table: Table, *printed: tuple[str, str], backbone: str = "hrnet18") -> tuple[Published, ...]:
    """The rows of `table` with other means and Δm."""
    return tuple(
        replace(row, means=means, delta=delta, backbone=backbone)
        for row, (means, delta) in zip(table.rows, printed, strict=True)
    )


TABLE_1 = Table("1", "Distillation modules", "HRNet18", "nyud", NYUD, (
    _SINGLE,
    _MULTI,
    Published("Cross-Stitch", "cross_stitch", "36.34 0.6290 20.88 76.38", "-1.75",
              "0.55 0.0051 0.04 0.07", 4.52, 17.59, distillation="cross_stitch"),
    Published("PAP", "pap", "36.72 0.6178 20.82 76.42", "-0.95",
              "0.31 0.0065 0.03 0.07", 4.54, 53.04, distillation="pap"),
    Published("PSD", "psd", "36.69 0.6246 20.87 76.42", "-1.30",
              "0.55 0.0036 0.07 0.13", 4.71, 21.10, distillation="psd"),
    Published("PAD-Net A / NDDR-CNN", "nddr", "36.72 0.6288 20.89 76.32", "-1.51",
              "0.31 0.0037 0.02 0.07", 4.59, 18.68, distillation="nddr"),
    Published("PAD-Net B", "padnet_b", "36.70 0.6264 20.85 76.50", "-1.33",
              "0.16 0.0021 0.03 0.06", 5.02, 25.18, distillation="padnet_b"),
    Published("PAD-Net C / MTI-Net", "padnet_c", "36.61 0.6270 20.85 76.38", "-1.44",
              "0.15 0.0048 0.03 0.07", 5.50, 32.42, distillation="padnet_c"),
    Published("Global relational context", "global", "38.30 0.6007 20.60 76.26", "1.00",
              "0.65 0.0073 0.07 0.05", 4.73, 21.43, distillation="global"),
    Published("Local relational context", "local", "36.79 0.6260 20.91 76.44", "-1.34",
              "0.29 0.0044 0.06 0.05", 4.73, 22.19, distillation="local"),
    Published("T-label relational context", "tlabel", "38.88 0.6059 20.48 76.30", "1.33",
              "0.31 0.0014 0.05 0.06", 5.06, 25.91, distillation="tlabel"),
    Published("S-label relational context", "slabel", "38.33 0.6006 20.56 76.26", "1.07",
              "0.64 0.0019 0.06 0.05", 5.06, 25.91, distillation="slabel"),
    _ATRC,
))  # fmt: skip

TABLE_2 = Table("2", "Comparison with MTI-Net", "HRNet18", "nyud", NYUD, (
    _again(_SINGLE, "Single task"),
    _again(_MULTI, "Multi-task"),
    Published("MTI-Net (FPM)", "mti_net", "39.89 0.5824 20.57 76.60", "2.94", distillation="mti_net"),
    _again(_ATRC, "ATRC"),
    Published("ATRC (FPM)", "fpm_atrc", "40.80 0.5826 20.51 76.50", "3.57", distillation="atrc", needs=("fpm_search",)),
))  # fmt: skip

TABLE_3 = Table("3", "Comparison with MTI-Net", "HRNet48", "nyud", NYUD, _same_rows(
    TABLE_2,
    ("45.87 0.5397 20.09 77.34", "0.00"),
    ("41.96 0.5543 20.36 77.62", "-3.05"),
    ("45.97 0.5365 20.27 77.86", "0.15"),
    ("46.27 0.5495 20.20 77.60", "-0.28"),
    ("46.33 0.5363 20.18 77.94", "0.49"),
    backbone="hrnet48",
))  # fmt: skip

TABLE_4 = Table("4", "Comparison with MTI-Net", "HRNet18", "pascal", PASCAL, _same_rows(
    TABLE_2,
    ("62.23 61.66 85.08 13.69 73.06", "0.00"),
    ("51.48 57.23 83.43 14.10 69.76", "-6.77"),
    ("61.70 60.18 84.78 14.23 70.80", "-2.12"),
    ("57.89 57.33 83.77 13.99 69.74", "-4.45"),
    ("62.69 59.42 84.70 14.20 70.96", "-1.98"),
))  # fmt: skip

TABLE_5 = Table("5", "ASPP and BMTAS with ATRC", "dilated ResNet-50", "pascal", PASCAL, tuple(
    replace(row, backbone="resnet50")
    for row in (
        Published("Single task", "single_task", "56.65 62.67 80.62 14.66 74.00", "0.00", runs="single_task_{task}"),
        Published("Multi-task", "multi_task", "50.78 59.37 78.99 15.16 71.18", "-4.97"),
        Published("Multi-task with ATRC", "atrc", "62.99 59.79 82.25 14.67 71.20", "0.95",
                  distillation="atrc", needs=("search",)),
        Published("ASPP", "aspp_multi_task", "62.70 59.98 83.81 14.34 71.28", "1.77"),
        Published("ASPP with ATRC", "aspp_atrc", "63.60 60.23 83.91 14.30 70.86", "2.13",
                  distillation="atrc", needs=("aspp_search",)),
        Published("BMTAS", "bmtas_multi_task", "56.37 62.54 79.91 14.60 72.83", "-0.55", needs=("branch",)),
        Published("BMTAS with ATRC", "bmtas_atrc", "67.67 62.93 82.29 14.24 72.42", "4.53",
                  distillation="atrc", needs=("branch", "bmtas_search")),
    )
))  # fmt: skip

TABLE_B1 = Table("B-1", "Single-task networks", "HRNet18 and HRNet48", "nyud", NYUD, (
    Published("HRNet18, published by MTI-Net", None, "33.18 0.667 - -"),
    replace(_again(_SINGLE, "HRNet18"), means="38.02 0.610 20.94 76.22", delta="-"),
    Published("HRNet48, published by MTI-Net", None, "45.70 0.547 - -"),
    replace(_again(_SINGLE, "HRNet48"), means="45.87 0.540 20.09 77.34", delta="-", backbone="hrnet48"),
))  # fmt: skip

TABLE_D1 = Table("D-1", "Regression and classification", "HRNet18", "nyud", ("depth", "normals"), (
    replace(_again(_SINGLE, "Regression"), means="0.6104 20.94", delta="-"),
    Published("Classification", "single_task_{task}_classification", "- -"),
), part=True, note="The paper draws the classifications (Fig. D-1) and prints no numbers.")  # fmt: skip

TABLE_E1 = Table("E-1", "Label contexts with regions from the labels", "HRNet18", "nyud", NYUD, (
    _again(_SINGLE, "Single task"),
    Published("T-label, GT", "tlabel_gt", "46.71 0.5202 18.16 76.06", "12.67", distillation="tlabel"),
    Published("S-label, GT", "slabel_gt", "47.71 0.5160 17.87 78.18", "14.55", distillation="slabel"),
))  # fmt: skip

TABLE_G1 = Table("G-1", "ATRC without self-attention", "HRNet18", "nyud", NYUD, (
    *(replace(row, parameters=None, multiply_adds=None) for row in (_SINGLE, _MULTI, _ATRC)),
    Published("ATRC (no self-attention)", "atrc_no_self", "38.19 0.6032 20.55 76.22", "0.87",
              "0.46 0.0038 0.05 0.10", distillation="atrc", needs=("search",)),
))  # fmt: skip

TABLE_F = Reliability("HRNet18", "search", "71.2", "0.48")

TABLES = {table.number: table for table in (
    TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_B1, TABLE_D1, TABLE_E1, TABLE_G1,
)}  # fmt: skip
NUMBERS = ("1", "2", "3", "4", "5", "B-1", "D-1", "E-1", "F", "G-1")
DATASETS = {number: TABLES[number].dataset if number in TABLES else TABLE_F.dataset for number in NUMBERS}
"""Dataset that each table is about."""
