"""Tells whether the process that this one depends on has ended: torchrun for its ranks, the launcher for a sweep.

Such a process leaves nobody behind who would collect the others, so each of them looks for itself.
"""

import os

# torchrun sets the variable for its ranks, and this module is imported early.
_needed: int | None = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None


def depend_on(parent: int) -> None:
    """Name the process id of the parent that must live as long as this process does."""
    global _needed
    _needed = parent


def orphaned() -> bool:
    """Whether that parent has ended; False where this process depends on none, as under nohup."""
    return _needed is not None and os.getppid() != _needed
