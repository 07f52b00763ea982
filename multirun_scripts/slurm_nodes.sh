#!/usr/bin/env bash
# One run on several nodes of Slurm: srun starts a torchrun on each, and each torchrun a rank for every GPU. Before the
# time limit, and where Slurm pre-empts it, the run saves and the job is queued again; `scancel` ends it for good.
#   sbatch --nodes=2 --gpus-per-node=8 multirun_scripts/slurm_nodes.sh +experiment=nyud_hrnet18_search engine=gpu [OVERRIDE...]
#   RANKS=4 sbatch --nodes=2 multirun_scripts/slurm_nodes.sh ...      nodes without GPUs, four ranks on each
#SBATCH --job-name=atrc_exp
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

# Slurm announces a pre-emption by the same SIGTERM as a cancellation; only a pre-emption has a time.
preempted() { scontrol show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]'; }

# torchrun exits with 1 whatever ends its ranks, so that the warning comes here first and is handed on.
warned=
trap 'warned=yes; scancel --signal=USR1 "$SLURM_JOB_ID"' USR1

# This script runs on the first node. A new id for every start keeps a rank of the one before out.
srun torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${RANKS:-gpu}" \
  --rdzv-backend=c10d --rdzv-endpoint="$(hostname):$((20000 + SLURM_JOB_ID % 40000))" \
  --rdzv-id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
  --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 -m atrc_exp "$@" &
step=$!
while kill -0 $step 2>/dev/null; do # a signal interrupts `wait`
  wait $step
  code=$?
done
if [ $code != 0 ] && { [ -n "$warned" ] || preempted; }; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
