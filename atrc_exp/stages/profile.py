"""`stage=profile`: parameters and multiply-adds of the configured network, without data and without weights."""

from pathlib import Path

from atrc_exp.config import Config
from atrc_exp.files import write_json
from atrc_exp.models.profile import profile_of


def run(config: Config) -> None:
    """Print the table and write `<runs_dir>/<name>/profile.json`.

    Raises:
        UserError: a network that cannot be built.
    """
    result = profile_of(config)
    height, width = result.image_size
    print(f"{config.name}, input 1x3x{height}x{width}")
    print(result.table())
    path = Path(config.runs_dir) / config.name / "profile.json"
    write_json(path, {"name": config.name, "input": [1, 3, height, width], **result.as_dict()})
    print(f"written to {path}")
