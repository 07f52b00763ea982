"""What Slurm says of the job that this process is part of and of the user's jobs. Only its commands are asked."""

import logging
import os
import re
import subprocess

log = logging.getLogger(__name__)

_OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
         "REVOKED", "TIMEOUT"}  # fmt: skip
"""States that end a job, unless it is queued again."""


def preempted() -> bool:
    """Whether this process belongs to a job that Slurm is taking the machine from, and would queue again."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    told = _ask("scontrol", "show", "job", job)
    return told is not None and re.search(r"PreemptTime=(?!None|\(null\))\S", told) is not None


def restarted() -> bool:
    """Whether Slurm has started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


def states() -> dict[str, str] | None:
    """Return the state of each job of this user by its id, as far as the controller remembers; None if it is silent."""
    told = _ask("squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i %T")
    return None if told is None else dict(line.split() for line in told.splitlines())


def over(state: str | None) -> bool:
    """Whether a job in this state has ended; None for one that the controller has forgotten."""
    return state is None or state in _OVER


def _ask(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()
        log.warning("%s does not answer: %s", command[0], reason)
        return None
