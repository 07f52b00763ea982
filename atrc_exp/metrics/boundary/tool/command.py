"""The command: score a folder of edge maps against a folder of ground truths."""

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import available_cores, score
from ..errors import BoundaryError
from ..protocols import PROTOCOLS
from .folders import Rules, score_folders
from .output import show, warnings_about, write
from .pairing import pair_files
from .records import Record, Records

STOPPED = 128 + signal.SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 after a user's mistake, 130 when it was stopped."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except BoundaryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}; choose another folder or free space", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="atrc-boundary", description=__doc__)
    parser.add_argument("predictions", type=Path, metavar="PRED", help="folder of edge maps: .png, .npy, .mat")
    parser.add_argument("truths", type=Path, metavar="GT", help="folder of ground truths with the same relative paths")
    parser.add_argument("--protocol", default="seism", help=f"one of {', '.join(PROTOCOLS)}; default: seism")
    parser.add_argument("--max-dist", type=float, default=0.0075, metavar="SHARE", help="largest distance of a match, "
                        "share of the image diagonal; default: 0.0075, on NYUD 0.011 is usual")  # fmt: skip
    parser.add_argument("--nms", metavar="MULTIPLIER", help="non-maximum suppression: off, or a multiplier (1, 1.01, "
                        "1.03) by which a pixel may stay below neighbours; default: as the protocol says")  # fmt: skip
    parser.add_argument("--partition", action="store_true", help="ground truths are maps of regions, not of boundaries")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write scores, tables, plot and overlays here; go on "
                        "with what an earlier run of the same command has counted")  # fmt: skip
    parser.add_argument("--overlays", type=int, default=3, metavar="N", help="of the best and the worst N images")
    parser.add_argument("--workers", type=int, default=available_cores(), metavar="N", help="processes")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _run(options: argparse.Namespace) -> int:
    rules = _rules(options)
    if options.workers < 1 or options.overlays < 0:
        raise BoundaryError(
            f"--workers {options.workers} --overlays {options.overlays}: give at least 1 and at least 0"
        )
    pairs, extra = pair_files(options.predictions, options.truths)
    out: Path | None = options.out
    records = Records(None if out is None else out / "counts.jsonl", rules.max_dist, rules.protocol)
    found: dict[str, Record] = {}
    try:
        for name, record in score_folders(pairs, rules, records, options.workers, not options.quiet):
            found[name] = record
    except KeyboardInterrupt:
        goes_on = "" if out is None else "; the same command goes on"
        print(f"stopped after {len(found)} of {len(pairs)} images{goes_on}", file=sys.stderr)
        return STOPPED
    scores = score([found[pair.name].counts for pair in pairs])
    warnings = warnings_about(pairs, found, extra)
    show(scores, warnings)
    if out is not None:
        write(out, pairs, found, scores, warnings, rules, options.overlays)
    return 0


def _rules(options: argparse.Namespace) -> Rules:
    if options.protocol not in PROTOCOLS:
        raise BoundaryError(f"--protocol {options.protocol}: choose one of {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[options.protocol]
    if options.nms == "off":
        protocol = replace(protocol, suppress=False)
    elif options.nms is not None:
        try:
            protocol = replace(protocol, suppress=True, multiplier=float(options.nms))
        except ValueError as error:  # no number, or one below 1
            raise BoundaryError(f"--nms {options.nms}: give off or a number of at least 1") from error
    if not 0 < options.max_dist < 1:
        raise BoundaryError(f"--max-dist {options.max_dist}: give a fraction of the image diagonal between 0 and 1")
    return Rules(protocol, options.max_dist, options.partition)
