"""A real SLURM of one node on this machine, for tests. Needs root and Debian's `slurm-wlm` and `munge`."""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP
"""


def why_not() -> str | None:
    """Why no SLURM can be started here; None if one can."""
    lacking = [program for program in PROGRAMS if not shutil.which(program, path=os.defpath + ":/usr/sbin:/sbin")]
    if lacking:
        return f"needs {', '.join(lacking)}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "needs root"


@contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """A SLURM that runs while the block does. Its commands find it by SLURM_CONF. Yields its configuration file."""
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True)
    shutil.chown(folder / "munge", "munge", "munge")
    folder.chmod(0o755)
    (folder / "munge").chmod(0o755)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=platform.node(), folder=folder))
    places = [
        f"--{kind}={folder}/munge/{kind.split('-')[0]}" for kind in ("socket", "pid-file", "log-file", "seed-file")
    ]
    munged = ["munged", "--foreground", "--force", *places]
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(conf)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D"]):
            daemons.append(_daemon(command, "munge" if command is munged else None))
        _wait_until_idle()
        yield conf
    finally:
        subprocess.run(["scancel", "--me"], check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


@contextmanager
def node_off() -> Iterator[None]:
    """The node fails with all that runs on it, is off while the block runs, and starts anew."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            settings = (process / "environ").read_bytes().split(b"\0")
            name = (process / "comm").read_text().strip()
            ours = f"SLURM_CONF={os.environ['SLURM_CONF']}".encode() in settings
            if ours and (name in ("slurmd", "slurmstepd") or any(s.startswith(b"SLURM_JOB_ID=") for s in settings)):
                os.kill(int(process.name), signal.SIGKILL)
    yield
    daemon = _daemon(["slurmd", "-D"])
    atexit.register(daemon.terminate)


def _daemon(command: list[str], user: str | None = None) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    started = subprocess.Popen(command, user=user, group=user, stdout=null, stderr=null)
    time.sleep(1)
    return started


def _wait_until_idle() -> None:
    for _ in range(60):
        done = subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, check=False)
        if done.stdout.strip() == "idle":
            return
        time.sleep(1)
    raise RuntimeError(f"the node is not ready: {done.stdout}{done.stderr}")
