#!/usr/bin/env bash
# The paper's protocol for one dataset and backbone: five searches, the vote, five trainings of the voted network, of
# every baseline and of every single context, one table. Finished runs are kept, so it can be stopped and repeated.
#   bash multirun_scripts/protocol.sh nyud hrnet18 dataset.root=/data/NYUDv2 [OVERRIDE...]
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: $0 DATASET BACKBONE [OVERRIDE...]   e.g. $0 nyud hrnet18 dataset.root=/data/NYUDv2" >&2
  exit 2
fi
exec python -m atrc_exp.report.campaign 1 --dataset "$1" --backbone "$2" \
  --rows single_task,multi_task,global,local,tlabel,slabel,atrc "${@:3}"
