"""A Slurm of this machine alone: root without systemd, in one folder, on loopback, up in seconds and down by pid."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
CPUS = 16  # that Slurm believes each node to have
GRACE = 60  # seconds from the announcement of a pre-emption to its end

_SETTINGS = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=requeue_delay=1
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""  # a requeued job may start again when its credential has expired, by default after 120 s


def missing() -> str | None:
    """Why there can be no such Slurm here; None where there can."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if absent:
        return f"Slurm is not installed ({', '.join(absent)}): apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "Slurm's daemons are started as root"


class Cluster:
    """One node of this host's name, or `n1`, `n2`, ... on it; a context manager that ends all daemons and jobs."""

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)] if nodes > 1 else [self.host]
        self.environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        ports, host = _free_ports(len(self.nodes) + 1), self.host
        (self.folder / "state").mkdir(parents=True)
        self.folder.chmod(0o755)
        nodes = [f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory=4000\n"
                 for name, port in zip(self.nodes, ports[1:], strict=True)]  # fmt: skip
        settings = _SETTINGS.format(host=host, ports=ports, folder=self.folder, grace=GRACE)
        (self.folder / "slurm.conf").write_text("".join(nodes) + settings)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        try:
            options = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munge.pid",
                       "seed-file": "munge.seed", "log-file": "munge.log"}  # fmt: skip
            self._start("munged", "--force", "--foreground", *(f"--{k}={self.folder / v}" for k, v in options.items()))
            wait_for((self.folder / "munge.socket").exists, "munged", 30)
            self._start("slurmctld", "-D")
            wait_for(lambda: "UP" in self.output("scontrol", "ping"), "slurmctld", 30)
            for node in self.nodes:
                self._start("slurmd", "-D", "-N", node)
            wait_for(lambda: set(self.output("sinfo", "-h", "-N", "-o", "%T").split()) == {"idle"}, "slurmd", 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemons:
            self.output("scancel", "--user=root", "--signal=KILL", "--full")
            self.output("scancel", "--user=root")
            until = time.monotonic() + 15
            while self._steps() and time.monotonic() < until:
                time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for step in self._steps():  # they would try for ever to tell the daemons of their end
            os.kill(step, signal.SIGKILL)

    def output(self, *command: str) -> str:
        """What a command of Slurm prints, whatever its exit code."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout

    def active(self) -> list[str]:
        """Lines "id state" of the jobs that have not ended."""
        return self.output("squeue", "-h", "-r", "-o", "%i %T").splitlines()

    def _steps(self) -> list[int]:
        """Process ids of the daemons of job steps: they hold the log of their node's daemon."""
        found = set()
        for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):
                if os.readlink(descriptor).startswith(f"{self.folder}/slurmd-"):
                    found.add(int(descriptor.parts[2]))
        return sorted(found - {daemon.pid for daemon in self._daemons})

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("a") as out:
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=out, stderr=out,
                                                  stdin=subprocess.DEVNULL, start_new_session=True))  # fmt: skip


def wait_for(condition: Callable[[], object], what: str, seconds: float = 240) -> None:
    """Until a condition holds; an error that names it, where it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.1)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports
