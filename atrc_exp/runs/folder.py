"""The folder of one run: who may write it, whether it is new, half done or done, and what identifies it.

A second start of the same command finds its folder by name and seed. It resumes, or says that the run is done; a start
with another configuration is refused, since its numbers would not belong to the folder's.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from atrc_exp import genotype as genotypes
from atrc_exp.bmtas import tree as branchings
from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.files import read_json, unwritable, write_json
from atrc_exp.normalisation import IMAGENET, Normalisation
from atrc_exp.processes.interrupt import Interrupted
from atrc_exp.processes.ranks import Ranks
from atrc_exp.runs import claim
from atrc_exp.runs.claim import DatasetRecord
from atrc_exp.runs.configurations import training_folder
from atrc_exp.runs.files import BRANCHING, CHECKPOINT, ENVIRONMENT, GENOTYPE, STATUS, SUMMARY

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Run:
    """An open run folder; a context manager that leaves `status.json` behind when the run fails or is interrupted.

    Attributes:
        id: identity in W&B, drawn at the first start.
        dataset: the dataset's record for the summary.
        normalisation: of the run's images, see `keep_backbone`.
        init: file and SHA-256 of the weights that the run started from, and what of them did not fit; None without
            `init`.
        summary: content of summary.json where the run is done, else None.
    """

    folder: Path
    ranks: Ranks
    id: str
    dataset: dict[str, Any]
    normalisation: Normalisation = IMAGENET
    init: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    lock: IO[str] | None = None

    @classmethod
    def open(cls, config: Config, ranks: Ranks, data: DatasetRecord, overrides: Sequence[str] = ()) -> "Run":
        """Claim `<runs_dir>/<name>/seed<seed>` for this process; collective.

        Args:
            data: record of the dataset that the run reads.
            overrides: command line, recorded in environment.json.

        Raises:
            UserError: the folder belongs to another configuration or dataset, is in use by another process, or cannot
                be written.
        """
        folder = training_folder(config)
        lock: IO[str] | None = None

        def claimed() -> tuple[dict[str, Any], dict[str, Any] | None]:
            nonlocal lock
            lock = claim.lock(folder)
            environment = claim.start(folder, config, ranks, data, overrides)
            return environment, read_json(folder / SUMMARY) if (folder / SUMMARY).exists() else None

        try:
            environment, summary = ranks.on_main(claimed)
        except (UserError, OSError) as error:
            if lock is not None:
                lock.close()
            raise (unwritable(folder, error) if isinstance(error, OSError) else error) from None
        init = environment.get("init")
        return cls(folder, ranks, environment["run_id"], data.as_dict(), init=init, summary=summary, lock=lock)

    @property
    def done(self) -> bool:
        """Whether an earlier start has finished."""
        return self.summary is not None

    @property
    def checkpoint(self) -> Path:
        """Latest checkpoint; it exists from the first save on."""
        return self.folder / CHECKPOINT

    def keep_genotype(self, genotype: genotypes.Genotype) -> None:
        """Write the genotype that a fixed network is built from. On a resume it must equal the one in the folder.

        Raises:
            UserError: the file that the configuration names has changed since the first start.
        """
        self._keep(
            self.folder / GENOTYPE,
            lambda path: dict(genotypes.load(path).blocks) == dict(genotype.blocks),
            lambda path: genotypes.save(genotype, path),
        )

    def keep_branching(self, branching: branchings.Branching) -> None:
        """Write the branching of the encoder. On a resume it must equal the one in the folder."""
        self._keep(
            self.folder / BRANCHING,
            lambda path: branchings.load(path) == branching,
            lambda path: branchings.save(branching, path),
        )

    def keep_backbone(self, provenance: Mapping[str, str | None], normalisation: Normalisation) -> None:
        """Record the weights of the backbone at the first start. A resumed run keeps that start's normalisation.

        A run that began before there was such a record goes on with ImageNet's normalisation, with which it began.

        Args:
            provenance: of the weights, see `models.backbones.backbone.Backbone`.
            normalisation: with which they were trained.
        """

        def keep() -> Normalisation:
            path = self.folder / ENVIRONMENT
            environment = read_json(path)
            if "backbone" not in environment and not self.checkpoint.exists():
                environment["backbone"] = {**provenance, **normalisation.as_dict()}
                write_json(path, environment)
            return Normalisation.of_run(environment)

        self.normalisation = self.ranks.on_main(keep)
        if self.normalisation != normalisation:
            log.warning(
                "images are normalised as at the first start of this run (%s), not as for the weights of the backbone "
                "(%s); another name= starts one that is", self.normalisation, normalisation,
            )  # fmt: skip

    def _keep(self, path: Path, unchanged: Callable[[Path], bool], save: Callable[[Path], None]) -> None:
        def keep() -> None:
            if path.exists() and not unchanged(path):
                raise UserError(f"{path} differs from the {path.stem} given now; use another name= for another one")
            save(path)

        self.ranks.on_main(keep)

    def keep_init(self, record: dict[str, Any]) -> None:
        """Write down where the weights of a new run come from."""
        self.init = record
        if self.ranks.is_main:
            environment = read_json(self.folder / ENVIRONMENT)
            write_json(self.folder / ENVIRONMENT, environment | {"init": record})

    def note_start(self, **facts: Any) -> None:
        """Add what has turned out about this start to its entry in environment.json; on rank 0 only."""
        environment = read_json(self.folder / ENVIRONMENT)
        environment["starts"][-1] |= facts
        write_json(self.folder / ENVIRONMENT, environment)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json, the mark of a finished run."""
        self.summary = summary
        if self.ranks.is_main:
            write_json(self.folder / SUMMARY, summary)
            (self.folder / STATUS).unlink(missing_ok=True)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        cause = unwritable(self.folder, error) if isinstance(error, OSError) else error
        if cause is not None and self.ranks.is_main and not self.done:
            try:
                signal = _interruption(error)
                text = str(signal or cause) or type(cause).__name__
                status = "interrupted" if signal or isinstance(error, KeyboardInterrupt) else "failed"
                write_json(self.folder / STATUS, {"status": status, "error": text})
            except OSError as second:
                log.warning("%s was not written: %s", STATUS, second)
        if self.lock is not None:
            self.lock.close()  # the kernel releases the lock with the file, also after kill -9
        if cause is not error and cause is not None:
            raise cause from error


def _interruption(error: BaseException | None) -> Interrupted | None:
    """Return the signal that ended the run, if one did. A scheduler's handler may have replaced it by an exit."""
    found = (cause for cause in (error, error and error.__context__) if isinstance(cause, Interrupted))
    return next(found, None)
