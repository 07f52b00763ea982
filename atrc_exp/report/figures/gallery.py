"""Pictures that stages left in run folders, found and scaled down for a page."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from atrc_exp.data.decode import read_photo
from atrc_exp.runs.finished import seed_folders

WIDTH = 1000  # pixels of a scaled picture at most
SHOWN = 6


def find(names: Iterable[Path], pattern: str) -> list[Path]:
    """Files of all runs that match a pattern below their folders: one of every name first, then more of them."""
    by_run = [sorted(run.glob(pattern)) for name in names for run in seed_folders(name).values()]
    longest = max(map(len, by_run), default=0)
    return [files[index] for index in range(longest) for files in by_run if index < len(files)]


def data_uri(path: Path) -> str:
    """A picture, scaled down, inside a page.

    Raises:
        UserError: it cannot be read.
    """
    scaled = Image.fromarray(read_photo(path))
    if scaled.width > WIDTH:
        scaled = scaled.resize((WIDTH, round(scaled.height * WIDTH / scaled.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    scaled.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
