#!/usr/bin/env bash
# The study of docs/study.md: every row of it with five seeds (upper bounds and classification forms with three), searches
# and their vote before what is built from it, then the tables, figures and maps of trained networks. It says first how
# many runs are missing and how many hours they take. Stopped at any time, the same command goes on.
#   bash multirun_scripts/study.sh [--dry-run] [OVERRIDE...]      runs in runs/study, small results also in docs/study
set -euo pipefail

runs=runs/study kept=docs/study
export OMP_NUM_THREADS=1 # one seed a core; the results of a run depend on its number of threads in the last digits
python -m atrc_exp.report.campaign study --dataset rooms --backbone lite "runs_dir=$runs" logger=none \
  hydra/launcher=joblib hydra.launcher.n_jobs=-1 engine.progress=false "$@"
case " $* " in *" --dry-run "*) exit ;; esac

data=data/rooms-64x96-800-160-seed0
python -m atrc_exp.report.constant "$data" --out "$runs"
python -m atrc_exp stage=importance "run=$runs/rooms_lite_atrc/seed0"
for name in multi_task atrc; do
  python -m atrc_exp stage=evaluate "run=$runs/rooms_lite_$name/seed0"
  for image in 0801 0802 0803; do
    python -m atrc_exp stage=predict "run=$runs/rooms_lite_$name/seed0" "input=$data/images/$image.png"
  done
done
python -m atrc_exp stage=attention "run=$runs/rooms_lite_atrc/seed0" "image=$data/images/0801.png" pixel=40,60
python -m atrc_exp stage=report "runs_dir=$runs"

mkdir -p "$kept/results"
(cd "$runs" && find . \( -name summary.json -o -name genotype.json -o -name metrics.jsonl -o -name constants.json \
  -o -name importance.json \) -print0 | tar --null -cf - -T -) | tar -C "$kept/results" -xf -
sed -i "s|$PWD/||" "$kept"/results/*/seed*/importance.json # of the paths, what is the same on every machine
python -m atrc_exp.report.paper "$kept/results" --dataset rooms --backbone lite --out "$kept/tables"
