#!/usr/bin/env bash
# One table of the paper with five seeds a row: says how many runs are missing and how many hours they take (measured
# here for a few steps of each preset), runs them, and prints ours beside the paper's. It can be stopped and repeated.
#   bash multirun_scripts/table.sh N [--dataset NAME] [--rows PRESET,...] [--dry-run] [OVERRIDE...]
#   N is 1, 2, 3, 4, 5, B-1, D-1, E-1, F or G-1, e.g.  bash multirun_scripts/table.sh 1 dataset.root=/data/NYUDv2
set -euo pipefail
exec python -m atrc_exp.report.campaign "$@"
