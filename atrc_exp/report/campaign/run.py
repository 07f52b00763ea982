"""All runs of a table of the paper: `python -m atrc_exp.report.campaign N [--dataset D] [--dry-run] [OVERRIDE...]`.

The command says how many runs are missing and how many hours they take, and runs them: searches first, then their vote,
then what is trained, then the table. If it is stopped, the same command goes on. A command that fails does not keep the
others from running and is named at the end.
"""

import argparse
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import FrameType

from atrc_exp.config.hydra_errors import USER_MISTAKES, explain
from atrc_exp.errors import UserError
from atrc_exp.files import print_any_text
from atrc_exp.report.campaign.hours import Estimate, estimate
from atrc_exp.report.campaign.plan import STUDY, Overrides, Step, steps, table_rows
from atrc_exp.report.paper import document
from atrc_exp.report.paper.published import DATASETS, NUMBERS, Published
from atrc_exp.report.results.sheet import GAP, Notes, Sheet, plain
from atrc_exp.report.results.tables import show_sheet
from atrc_exp.words import counted

STUDY_NAME = "study"


def show(title: str, planned: Sequence[Step], estimates: Mapping[str, Estimate]) -> None:
    """Print what is missing and how long it takes."""
    lines, total, unknown, remarks = [], 0.0, 0, Notes()
    for step in planned:
        runs, missing, found = len(step.runs()), len(step.missing()), estimates.get(step.preset)
        hours = found.hours if found else None
        each, all_of_it = (GAP, GAP) if hours is None else (f"{hours:.2f}", f"{hours * missing:.2f}")
        each += remarks.mark([found.note] if found and found.note else [])
        lines.append([step.preset, str(runs), str(missing), each, all_of_it])
        total += (hours or 0.0) * missing
        unknown += missing if hours is None else 0
    header = ("Preset", "Runs", "Missing", "Hours a run", "Hours")
    missing = sum(len(step.missing()) for step in planned)
    devices = ", ".join(dict.fromkeys(found.device for found in estimates.values() if found.device))
    notes = [*remarks.lines(), f"{missing} of {counted(sum(len(step.runs()) for step in planned), 'run')} missing"]
    if missing:
        notes[-1] += f": {total:.2f} hours, one after another on {devices or 'this machine'}"
        notes[-1] += f", and {counted(unknown, 'run')} of unknown length" if unknown else ""
        notes.append("Training steps alone: data, validation and checkpoints come on top, and begun runs take less.")
    show_sheet(Sheet("plan", title, header, plain(lines), tuple(notes)))


def run(planned: Sequence[Step]) -> int:
    """Run the steps that are not done, and return the exit code: 0, 1 after failures, or that of an interruption."""
    failed = []
    for step in planned:
        if step.is_done:
            continue
        arguments = step.arguments()
        print("+ python -m atrc_exp", shlex.join(arguments), flush=True)
        code, stopped = _wait([sys.executable, "-m", "atrc_exp", *arguments])
        if stopped or code < 0 or code > 128:
            print("interrupted; the same command goes on", file=sys.stderr)
            return code if code > 0 else 128 + (stopped or -code)
        if code:
            failed.append(step.preset)
    if failed:
        print(f"not complete: {', '.join(failed)}; the same command again runs what is missing", file=sys.stderr)
    return 1 if failed else 0


def _wait(command: Sequence[str]) -> tuple[int, int]:
    """Wait for the command; return its exit code and the signal that came meanwhile, 0 for none.

    A Ctrl-C reaches the command from the terminal; SIGTERM is handed on. Either way it writes its checkpoint first.
    """
    came = 0
    child = subprocess.Popen(command)

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = number
        if number == signal.SIGTERM:
            child.terminate()

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return child.wait(), came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _chosen(number: str, wanted: Sequence[str] | None, backbone: str | None) -> tuple[Published, ...]:
    """The rows asked for, by their presets, on the backbone asked for."""
    rows = table_rows(number)
    if wanted is not None:
        known = [row.preset for row in rows]
        if surplus := [name for name in wanted if name not in known]:
            raise UserError(f"--rows {','.join(surplus)}: Table {number} has {', '.join(map(str, known))}")
        rows = tuple(row for row in rows if row.preset in wanted)
    return rows if backbone is None else tuple(replace(row, backbone=backbone) for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plan, show, run."""
    print_any_text()
    parser = argparse.ArgumentParser(prog="python -m atrc_exp.report.campaign", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    tables = f"{', '.join(NUMBERS)}, or {STUDY_NAME}: rows of several tables, under equal conditions"
    parser.add_argument("table", choices=(*NUMBERS, STUDY_NAME), metavar="N", help=tables)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="for every command; seed=0,1 for other seeds")
    parser.add_argument("--dataset", help="instead of the paper's: nyud, pascal, rooms, rooms_people")
    parser.add_argument("--backbone", help="instead of the paper's: lite, hrnet48, ...")
    parser.add_argument("--rows", help="presets of some rows only, separated by commas")
    parser.add_argument("--dry-run", action="store_true", help="only say what is missing and how long it takes")
    options = parser.parse_intermixed_args(arguments)
    try:
        overrides = Overrides.parse(options.overrides)
        planned, unknown = _plan(options, overrides)
    except (*USER_MISTAKES, OSError) as error:
        sys.exit(f"error: {explain(error)}")
    for preset in unknown:
        print(f"{preset}: there is no such preset, its row stays empty")
    title = "Runs of the study" if options.table == STUDY_NAME else f"Runs of Table {options.table}"
    show(title, planned, {step.preset: estimate(step) for step in planned if step.missing()})
    if options.dry_run:
        return
    code = run(planned)
    if code in (0, 1):
        for number in dict.fromkeys(number for number, _, _ in _parts(options)):
            _tabulate(number, options, overrides)
    sys.exit(code)


def _parts(options: argparse.Namespace) -> Sequence[tuple[str, Sequence[str] | None, int | None]]:
    """Tables, presets of the rows asked for, and how many of the seeds they get; None for all."""
    if options.table != STUDY_NAME:
        return ((options.table, options.rows and options.rows.split(","), None),)
    if options.rows is not None:
        raise UserError(f"--rows {options.rows}: goes with a table; the study has its own rows")
    return STUDY


def _plan(options: argparse.Namespace, overrides: Overrides) -> tuple[list[Step], list[str]]:
    """The multiruns of all parts, each once, and presets that the dataset does not have."""
    planned: dict[str, Step] = {}
    unknown: dict[str, None] = {}
    for number, names, most in _parts(options):
        some = replace(overrides, seeds=overrides.seeds[:most])
        rows = _chosen(number, names, options.backbone)
        found, lacking = steps(number, options.dataset or DATASETS[number], rows, some)
        for step in found:
            planned.setdefault(step.preset, step)
        unknown |= dict.fromkeys(lacking)
    return list(planned.values()), list(unknown)


def _tabulate(number: str, options: argparse.Namespace, overrides: Overrides) -> None:
    """The table beside the paper's, or on the backbone asked for."""
    dataset = options.dataset or DATASETS[number]
    backbone = [] if options.backbone is None else ["--backbone", options.backbone]
    document.main([overrides.runs_dir, "--table", number, "--dataset", dataset, *backbone])
