"""`stage=prepare`: unpack a dataset, check every file of it, and write down what it is."""

import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from atrc_exp.config import Config
from atrc_exp.data.loader import needed_labels
from atrc_exp.data.prepare.archive import SUFFIXES, is_archive, unpack
from atrc_exp.data.prepare.check import check_files
from atrc_exp.data.prepare.crop import cropped_copy
from atrc_exp.data.prepare.download import download, file_name, require_checksum
from atrc_exp.data.readers.datasets import open_reader
from atrc_exp.data.readers.reader import SPLITS, Reader, count_notes, load_sample
from atrc_exp.data.readers.sample import Sample
from atrc_exp.errors import UserError
from atrc_exp.files import alone, scratch_beside
from atrc_exp.report.results import dataset as dataset_report
from atrc_exp.runs.logging.console import image_progress, show_messages
from atrc_exp.words import counted

log = logging.getLogger(__name__)

_SAMPLES = 3  # images in the figure


def run(config: Config) -> None:
    """Write `dataset_report.json` with its figure; end with an error where files are wrong.

    Raises:
        UserError: a source that cannot be had or unpacked, no dataset there, files that are wrong, or, with
            `dataset.strict`, other numbers of images than the published ones.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("stage=prepare runs in one process; start it without torchrun")
    show_messages(True)
    root = _place(config)
    reader = _open(config, root)
    if config.prepare.crop:
        reader = _cropped(config, reader)
    record = _check(config, reader)
    folder = Path(config.output or Path(config.runs_dir) / "datasets" / config.dataset.name).expanduser()
    dataset_report.write(folder, record, _samples(config, reader), reader.class_names)
    count_notes(config.dataset, record["dataset"]["counts"])
    if record["problems"]:
        first = record["problems"][0]
        raise UserError(
            f"{reader.root}: {counted(len(record['problems']), 'problem')}, "
            f"listed in {folder / dataset_report.FILE_NAME}; "
            f"the first: {first['file']}: {first['problem']}"
        )
    print(f"{reader.root} is ready: dataset={config.dataset.name} dataset.root={reader.root}")


def _place(config: Config) -> Path:
    """The folder of the dataset, unpacked from its source where it is not there yet."""
    source, root = config.prepare.source, Path(config.dataset.root).expanduser()
    if source is None:
        return root
    url = source.startswith(("http://", "https://"))
    given = Path(source).expanduser()
    if not url and given.is_dir():
        return given
    if not url and not given.is_file():
        raise UserError(f"prepare.source={source}: does not exist; give a folder, an archive or an http(s) address")
    if not is_archive(file_name(source) if url else given.name):
        raise UserError(f"prepare.source={source}: is neither a folder nor an archive ({', '.join(SUFFIXES)})")
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        log.info("%s exists: it is checked, and prepare.source=%s is not looked at", root, source)
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with alone(root.parent / f".{root.name}.lock"):
            archive = download(source, root.parent, progress=config.engine.progress) if url else given
            if config.prepare.sha256 is not None:
                require_checksum(archive, config.prepare.sha256)
            _unpack(archive, root, config)
    except OSError as error:
        raise UserError(f"{root} cannot be written: {error.strerror or error}; set another dataset.root") from error
    return root


def _unpack(archive: Path, root: Path, config: Config) -> None:
    """Unpack beside the root, see whether it is a dataset at all, and move it into place."""
    with scratch_beside(root) as scratch:
        folder = unpack(archive, scratch, progress=config.engine.progress)
        try:
            _open(config, folder)
        except UserError as error:
            text = str(error).replace(str(folder), archive.name).replace("dataset.root=", "")
            raise UserError(f"{archive}: holds no dataset for dataset={config.dataset.name} ({text})") from error
        os.replace(folder, root)  # an empty folder there is replaced


def _cropped(config: Config, reader: Reader) -> Reader:
    with image_progress("crops", _images(reader), bar=config.engine.progress) as advance:
        root = cropped_copy(reader, advance=advance)
    return _open(config, root)


def _open(config: Config, root: Path) -> Reader:
    return open_reader(replace(config.dataset, root=str(root)), needed_labels(config))


def _samples(config: Config, reader: Reader) -> list[Sample]:
    """Read some images with their labels from all over the training split."""
    ids, samples = reader.ids[SPLITS[0]], []
    for id in ids[:: -(-len(ids) // _SAMPLES)]:
        with suppress(UserError):  # it is among the problems
            samples.append(load_sample(reader, id, config.task_names))
    return samples


def _check(config: Config, reader: Reader) -> dict[str, Any]:
    with image_progress("images", _images(reader), bar=config.engine.progress) as advance:
        findings = check_files(
            reader, needed_labels(config), values=config.prepare.values, workers=config.engine.workers, advance=advance
        )
    return dataset_report.as_record(reader, config.dataset, findings)


def _images(reader: Reader) -> int:
    return sum(map(len, reader.ids.values()))
