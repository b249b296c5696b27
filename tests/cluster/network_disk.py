"""Four machines give one command on one network disk, and one of them fails: each run is carried out once.

    python -m tests.cluster.network_disk     # about five minutes; needs root, sshfs and openssh-sftp-server

A machine is a name and a process namespace of its own, so that nobody sees another one's processes, and a mount of its
own of the disk. The disk is sshfs: like NFS it keeps attributes and lists of files for a while, and no machine sees
another one's locks (`flock`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.cluster.outcome import PATIENCE, compare, done, finish
from tests.commands import DAPA, wait_until
from tests.settings import quick

SWEEP = ("-m", "pair=mini-llama-small-base,mini-llama-small-style", "search.seed=range(0,6)")
RUNS = 12
WORDS = quick(*SWEEP, "dataset.search.rows=[0,48]", "search.threshold=1.0", "runtime.processes=1")
MACHINES = 4
SERVER = "/usr/lib/openssh/sftp-server"


def main() -> int:
    lacking = [name for name in ("sshfs", "unshare", SERVER) if not shutil.which(name)]
    if lacking or os.geteuid() != 0:
        print(f"skipped: needs {', '.join(lacking) or 'root'} (apt-get install sshfs openssh-sftp-server)")
        return 0
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        finish(scratch / "whole", *WORDS)
        (disk := scratch / "disk").mkdir()
        machines = [stack.enter_context(machine(scratch, disk, number)) for number in range(MACHINES)]
        wait_until(lambda: len(list(disk.glob("single/*/search.jsonl"))) >= MACHINES, PATIENCE)
        failed = machines[0]
        failed.send_signal(signal.SIGKILL)  # with it all that runs on the machine
        wait_until(lambda: done(disk) == RUNS, PATIENCE)
        for one in machines[1:]:
            assert one.wait(PATIENCE) == 0
        compare(disk, scratch / "whole")
        logs = [file.read_text() for file in disk.glob("single/*/run.log")]
        assert all(log.count("the run is done") == 1 for log in logs), "a run was carried out twice"
        begun = sum(log.count("search: begins") for log in logs)
        assert begun <= RUNS + 1, f"{begun} searches were begun, for {RUNS} runs of which one was interrupted"
        hosts = sorted(
            {line.split(" on ")[1].split(",")[0] for log in logs for line in log.splitlines() if "opened by" in line}
        )
    print(f"{RUNS} runs on {', '.join(hosts)}, one of which failed: each run once, {begun} searches begun, same tables")
    return 0


@contextmanager
def machine(scratch: Path, disk: Path, number: int) -> Iterator[subprocess.Popen[bytes]]:
    """A machine that gives the command until all runs are done."""
    connect = scratch / "connect"
    connect.write_text(f"#!/bin/sh\nexec {SERVER}\n")
    connect.chmod(0o755)
    (mount := scratch / f"machine{number}").mkdir()
    subprocess.run(["sshfs", "-o", f"ssh_command={connect}", f"server:{disk}", mount], check=True)
    try:
        again = f'hostname machine{number}; until "$@"; do sleep 5; done'
        own = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", again, "sh"]
        with (scratch / f"said{number}.txt").open("wb") as said:
            process = subprocess.Popen([*own, *DAPA, *WORDS, f"record.dir={mount}"], stdout=said, stderr=said)
        yield process
    finally:
        process.kill()
        process.wait()
        time.sleep(1)  # until all on the machine have ended
        subprocess.run(["umount", "-l", mount], check=True)


if __name__ == "__main__":
    raise SystemExit(main())
