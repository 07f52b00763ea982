#!/usr/bin/env bash
# The machinery on procedural rooms, in minutes on two CPU cores: five searches, vote, retraining, baselines, the table
# and the page of all runs.
# It shows that everything works together; networks this small and short say nothing about the method.
#   bash multirun_scripts/demo.sh [OVERRIDE...]      results in runs/demo, an interrupted demo goes on where it was
set -euo pipefail

runs=runs/demo
python -m atrc_exp stage=generate # 160 training and 40 validation rooms of 64x96, once for all
# One seed a core: networks this small do not keep two cores busy.
common=(hydra/launcher=joblib hydra.launcher.n_jobs=-1 runs_dir=$runs engine.log_every=10 engine.checkpoint_every=50
  engine.iterations=50 engine.validate_every=50 engine.workers=0 logger=none "$@")
short=(engine.batch_size=4 "${common[@]}")
atrc_exp() { echo "+ python -m atrc_exp $*"; python -m atrc_exp "$@"; }

atrc_exp -m +experiment=rooms_hrnet18_search seed=0,1,2,3,4 \
  engine.batch_size=2 search.arch_lr=0.07 "${common[@]}"
atrc_exp -m +experiment=rooms_hrnet18_single_task "tasks=[semseg],[depth],[normals],[edge]" seed=0,1,2 "${short[@]}"
atrc_exp -m +experiment=rooms_hrnet18_multi_task seed=0,1,2 "${short[@]}"
atrc_exp -m +experiment=rooms_hrnet18_atrc genotype=$runs/rooms_hrnet18_search seed=0,1,2 "${short[@]}"

python -m atrc_exp.report $runs --out $runs
python -m atrc_exp stage=report runs_dir=$runs
echo "This shows the machinery, not the method: random initial weights, 50 iterations, small images."
echo "Table: $runs/table.md   votes: $runs/rooms_hrnet18_search/votes.png   all: $runs/report/index.html"
