#!/usr/bin/env bash
# Every distillation module learns: a short training of each on the same procedural rooms with the same seed, and the
# table of their losses at the start and the end. It shows that gradients are right, not which module is better.
#   bash multirun_scripts/modules.sh [OVERRIDE...]      results in runs/modules, an interrupted start goes on
set -euo pipefail

runs=runs/modules
short=(runs_dir=$runs dataset.rooms.train=32 dataset.rooms.val=8 engine.iterations=24 engine.batch_size=4
  engine.log_every=4 engine.validate_every=24 engine.checkpoint_every=24 engine.workers=0 logger=none)
modules=(multi_task cross_stitch pap psd nddr padnet_b padnet_c mti_net global local tlabel slabel)
names=$(printf ',rooms_hrnet18_%s' "${modules[@]}")

python -m atrc_exp -m "+experiment=${names:1}" "${short[@]}" "$@"
python -m atrc_exp -m +experiment=rooms_hrnet18_atrc,rooms_hrnet18_atrc_no_self genotype=published/nyud_hrnet18 \
  "${short[@]}" "$@"
python -m atrc_exp +experiment=rooms_hrnet18_search "${short[@]}" "$@"
python -m atrc_exp.report.learning $runs
