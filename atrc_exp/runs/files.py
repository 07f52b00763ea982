"""Names of the files in the folder of a run, `<runs_dir>/<name>/seed<k>/`."""

from pathlib import Path

from atrc_exp.bmtas.tree import FILE_NAME as BRANCHING
from atrc_exp.genotype import FILE_NAME as GENOTYPE

CONFIG = "config.yaml"
"""The configuration, resolved."""
ENVIRONMENT = "environment.json"
"""Identity and data of the run, and for every start versions, commit and hardware."""
LOG = "train.log"
RECORDS = "metrics.jsonl"
"""A JSON object for every logging step and validation."""
CHECKPOINTS = "checkpoints"
LAST = "last.pt"
PREVIOUS = "previous.pt"
BEST = "best.json"
CHECKPOINT = Path(CHECKPOINTS) / LAST
"""The checkpoint from which the run goes on."""
CODEBOOK = "codebook.npy"
"""Unit normals (40, 3), where label regions of normals are read."""
WEIGHTS = "weights.safetensors"
PREDICTIONS = "predictions"
"""Folder of the last validation's predictions, on request."""
STATUS = "status.json"
"""Why the run stopped; gone when it goes on."""
SUMMARY = "summary.json"
"""Final scores, written last: the run is done where it is."""
LOCK = ".lock"

START = (CONFIG, ENVIRONMENT, STATUS, GENOTYPE, BRANCHING)
"""What a start leaves before its first checkpoint."""
