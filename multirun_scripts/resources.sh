#!/usr/bin/env bash
# Parameters and multiply-adds of Table 1's networks beside the paper's, without data and without weights.
#   bash multirun_scripts/resources.sh [--out FOLDER]      resources.md and resources.json, by default in runs/
#   --benchmark runs/nyud_hrnet18_multi_task/benchmark.json      also time and memory, as stage=benchmark measured them
set -euo pipefail
python -m atrc_exp.report.resources "$@"
