#!/usr/bin/env bash
# One run as one Slurm job, without submitit and without a command that waits. Before the time limit, and where Slurm
# pre-empts it, the run saves and the job is queued again; `scancel` ends it for good.
#   sbatch --gpus-per-node=1 multirun_scripts/slurm_job.sh +experiment=nyud_hrnet18_search seed=0 [OVERRIDE...]
#   python -m atrc_exp.report.votes runs/nyud_hrnet18_search      the vote, when all seeds have ended
#SBATCH --job-name=atrc_exp
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

# Slurm announces a pre-emption by the same SIGTERM (143) as a cancellation; only a pre-emption has a time.
preempted() { scontrol show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]'; }

srun python -m atrc_exp "$@"
code=$?
if [ $code = 138 ] || { [ $code = 143 ] && preempted; }; then # 138: SIGUSR1, the warning before the time limit
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
