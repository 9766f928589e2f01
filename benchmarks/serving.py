# SPDX-License-Identifier: BSD-3-Clause
"""Servers as processes, for the benchmarks beside this file."""

import subprocess
import sys
import time
from pathlib import Path

from stepwire.testing.servers import Server


def write_stock_template(folder: Path, sessions: int = 1000) -> Path:
    """What `openenv init echo` of the installed framework writes, for that many sessions."""
    command = [str(Path(sys.executable).with_name("openenv")), "init", "echo"]
    subprocess.run([*command, "--output-dir", str(folder)], check=True, capture_output=True)
    application = folder / "echo" / "server" / "app.py"
    text = application.read_text()
    changed = text.replace("max_concurrent_envs=1,", f"max_concurrent_envs={sessions},")
    application.write_text(changed)
    return folder / "echo"


def process_clock(pid: int) -> int:
    """The clock of a process's CPU time, for `time.clock_gettime`: clock_getcpuclockid(3)."""
    return (~pid << 3) | 2


def process_size(pid: int) -> tuple[int, int]:
    """Resident KB and threads of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return int(status["VmRSS"].split()[0]), int(status["Threads"])


def workers_of(server: Server, number: int) -> list[int]:
    """The worker processes, once all of them serve; the server logs at the level `info`."""
    while server.log.count("Application startup complete.") < number:
        time.sleep(0.1)
    lines = [line for line in server.log.splitlines() if "Started server process" in line]
    return [int(line.partition("[")[2].partition("]")[0]) for line in lines]
