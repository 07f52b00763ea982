#!/usr/bin/env bash
# ATRC on procedural rooms, in minutes on two CPU cores: five searches, their vote, the network that follows from it, the
# baselines, the table and the page of all runs. Networks start from ImageNet weights and are trained for a short while.
#   bash multirun_scripts/demo.sh [OVERRIDE...]      results in runs/demo, an interrupted demo goes on where it was
set -euo pipefail

runs=runs/demo rooms=(dataset.rooms.train=240 dataset.rooms.val=60)
export OMP_NUM_THREADS=1 # one seed a core: networks this small do not keep two cores busy
# Half of the study's batch, and so half of its learning rate.
common=(hydra/launcher=joblib hydra.launcher.n_jobs=-1 "runs_dir=$runs" "${rooms[@]}" logger=none engine.batch_size=4 optim.lr=0.01
  engine.checkpoint_every=50 engine.log_every=10 engine.iterations=160 engine.validate_every=160 "$@")
atrc_exp() { echo "+ python -m atrc_exp $*"; python -m atrc_exp "$@"; }

atrc_exp stage=generate "${rooms[@]}" # once for all
python -m atrc_exp.report.constant data/rooms-64x96-240-60-seed0 --out "$runs"
atrc_exp -m +experiment=rooms_lite_search seed=0,1,2,3,4 search.arch_lr=0.02 "${common[@]}"
atrc_exp -m +experiment=rooms_lite_multi_task seed=0,1,2 "${common[@]}"
atrc_exp -m +experiment=rooms_lite_atrc "genotype=$runs/rooms_lite_search" seed=0,1,2 "${common[@]}"
atrc_exp -m +experiment=rooms_lite_single_task "tasks=[semseg],[depth],[normals],[edge]" seed=0,1 "${common[@]}"

atrc_exp stage=predict "run=$runs/rooms_lite_atrc/seed0" input=data/rooms-64x96-240-60-seed0/images/0295.png
python -m atrc_exp.report "$runs" --out "$runs"
python -m atrc_exp stage=report "runs_dir=$runs"
echo "Shown: after 160 steps from ImageNet weights, one network for four tasks beats the constants of the training rooms."
echo "Not shown: which module is best. These runs are too short and too few; multirun_scripts/study.sh has more of both."
echo "Table: $runs/table.md   votes: $runs/rooms_lite_search/votes.png   all: $runs/report/index.html"
