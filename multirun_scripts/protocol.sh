#!/usr/bin/env bash
# The paper's protocol for one dataset and backbone: five searches, the vote, five trainings of the voted network, of
# every baseline and of every single context, one table. Finished runs are kept, so it can be stopped and repeated.
#   bash multirun_scripts/protocol.sh nyud hrnet18 dataset.root=/data/NYUDv2 [OVERRIDE...]
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: $0 DATASET BACKBONE [OVERRIDE...]   e.g. $0 nyud hrnet18 dataset.root=/data/NYUDv2" >&2
  exit 2
fi
dataset=$1 backbone=$2
shift 2
runs=runs
for override in "$@"; do
  case $override in runs_dir=*) runs=${override#runs_dir=} ;; esac
done
prefix=${dataset}_${backbone}
sweep() { echo "+ python -m atrc_exp -m $*"; python -m atrc_exp -m "$@"; }

sweep +experiment=${prefix}_search seed=0,1,2,3,4 "$@"
tasks=$(python -c 'import sys; from atrc_exp.genotype import load
print(",".join(f"[{task}]" for task in load(sys.argv[1]).tasks))' "$runs/${prefix}_search")
sweep +experiment=${prefix}_single_task "tasks=$tasks" seed=0,1,2,3,4 "$@"
for what in multi_task global local tlabel slabel; do
  sweep +experiment=${prefix}_$what seed=0,1,2,3,4 "$@"
done
sweep +experiment=${prefix}_atrc genotype="$runs/${prefix}_search" seed=0,1,2,3,4 "$@"
python -m atrc_exp.report "$runs"/${prefix}_* --out "$runs"
