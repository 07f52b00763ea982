"""`stage=profile`: parameters and multiply-adds of the configured network, without data and without weights."""

from pathlib import Path

from atrc_exp.config import Config
from atrc_exp.files import write_json
from atrc_exp.models.profile import Profile, profile_of
from atrc_exp.report.results.sheet import Sheet, plain
from atrc_exp.report.results.tables import show_sheet


def run(config: Config) -> None:
    """Print the table and write `<runs_dir>/<name>/profile.json`.

    Raises:
        UserError: a network that cannot be built.
    """
    result = profile_of(config)
    height, width = result.image_size
    print(f"{config.name}, input 1x3x{height}x{width}")
    show_sheet(_sheet(result))
    path = Path(config.runs_dir) / config.name / "profile.json"
    write_json(path, {"name": config.name, "input": [1, 3, height, width], **result.as_dict()})
    print(f"written to {path}")


def _sheet(result: Profile) -> Sheet:
    """Parameters, and multiply-adds: plain, with local attention, and as Table 1 counts them."""
    header = ("Part", "Parameters [M]", "Multiply-adds [G]", "with local attention", "as in Table 1")
    lines = [
        (name, f"{part.parameters / 1e6:.3f}", f"{part.multiply_adds / 1e9:.4f}",
         f"{(part.multiply_adds + part.local_attention) / 1e9:.4f}", f"{part.paper / 1e9:.4f}")
        for name, part in (*result.parts.items(), ("total", result.total))
    ]  # fmt: skip
    return Sheet("profile", "", header, plain(lines))
