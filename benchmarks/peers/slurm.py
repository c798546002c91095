"""Slurm on one node: slurmctld, slurmd and munged, as root, on 127.0.0.1 with a configuration of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence

from benchmarks import processes, timing
from benchmarks.peers.peer import Argv, Peer

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "sinfo")
SBIN = "/usr/sbin:/sbin"
CONFIG = """ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MaxJobCount=20000
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class Slurm(Peer):
    name = "Slurm"
    _processes: dict[str, subprocess.Popen[bytes]]

    def missing(self) -> str | None:
        path = f"{os.environ.get('PATH', '')}:{SBIN}"
        absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
        if absent:
            return f"{absent[0]} is not installed (apt-get install slurmctld slurmd slurm-client munge)"
        return None if os.getuid() == 0 else "its daemons want to be started by root"

    def start(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        config = self.folder / "slurm.conf"
        fields = {"host": socket.gethostname(), "folder": self.folder, "ports": _free_ports(2)}
        config.write_text(CONFIG.format(**fields, cores=len(os.sched_getaffinity(0))))
        self.env = os.environ | {"SLURM_CONF": str(config)}
        self.env["PATH"] = f"{os.environ.get('PATH', '')}:{SBIN}"
        self._processes = {"munged": self._popen(self._munged(), "munged.log")}
        timing.wait_until((self.folder / "munge.sock").exists, "munged")
        self._processes["slurmd"] = self._popen(["slurmd", "-D", "-N", socket.gethostname()], "slurmd.out")
        self.again()

    def _munged(self) -> Argv:
        munge = self.folder / "munge"
        files = {"key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        return ["munged", "--foreground", "--force", f"--socket={self.folder / 'munge.sock'}", *options]

    def again(self) -> None:
        self._processes["slurmctld"] = self._popen(["slurmctld", "-D"], "slurmctld.out")
        timing.wait_until(self._ready, "Slurm's node to be idle")

    def _ready(self) -> bool:
        done = subprocess.run(["sinfo", "-h", "-o", "%t"], env=self.env, capture_output=True, text=True)
        return done.stdout.strip() in ("idle", "mix", "alloc")

    def kill(self) -> None:
        daemon = self._processes["slurmctld"]
        own = processes.with_children(daemon.pid)
        processes.kill(own)
        daemon.wait()

    def close(self) -> None:
        for process in self._processes.values():
            processes.kill(processes.with_children(process.pid))
            process.wait()
        processes.kill(processes.carrying(str(self.folder)))

    def daemons(self) -> Sequence[int]:
        return [process.pid for process in self._processes.values()]

    def submit(self, script: str, *, parked: bool = False, alone: bool = False) -> Argv:
        options = ["--parsable", "--output=/dev/null", *(["--hold"] if parked else [])]
        return ["sbatch", *options, *(["--exclusive"] if alone else []), f"--wrap={script}"]

    def job_id(self, said: str) -> str:
        return said.strip()

    def park_many(self, count: int) -> None:
        for _ in range(count):
            self.run(self.submit("true", parked=True))

    def listing(self) -> Argv:
        return ["squeue"]

    def known(self) -> int:
        return len(self.run(["squeue", "-h", "-o", "%A"]).split())

    def cancel(self, job: str) -> Argv:
        return ["scancel", job]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
