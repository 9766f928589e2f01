# SPDX-License-Identifier: BSD-3-Clause
"""`Cluster`: one-worker servers of the notes environment behind HAProxy, as real processes."""

import csv
import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import requests
from waiting import wait_until

from stepwire.deploy.haproxy import Options, configuration
from stepwire.testing.servers import (
    Server,
    reserved_port,
    running_server,
    serving_command,
    wait_until_healthy,
)

_PATIENCE_S = 60.0


def _program() -> str:
    # Debian installs it in a folder that only root's PATH has.
    return shutil.which("haproxy", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin") or "haproxy"


class Cluster:
    """Servers with `places` sessions each, and HAProxy before them."""

    def __init__(self, folder: Path, servers: int, places: int) -> None:
        self._folder = folder
        self._running = ExitStack()
        self._each = [ExitStack() for _ in range(servers)]
        self._ports = [self._running.enter_context(reserved_port()) for _ in range(servers)]
        self._variables = {
            "MAX_CONCURRENT_ENVS": str(places),
            "SECRET_KEY": "one for all of them",
        }
        self.servers: list[Server] = []
        self.places = servers * places
        port, self._statistics_port = (
            self._running.enter_context(reserved_port()) for _ in range(2)
        )
        self.options = Options(
            [f"127.0.0.1:{port}" for port in self._ports],
            places,
            listen=f"127.0.0.1:{port}",
            statistics=f"127.0.0.1:{self._statistics_port}",
            queue_timeout=int(_PATIENCE_S),
        )
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> "Cluster":
        for index in range(len(self._ports)):
            self.servers.append(self._start(index))
        file = self._folder / "haproxy.cfg"
        # Checked more often than outside of tests. A busy server may take its time to answer.
        file.write_text(configuration(self.options).replace("inter 1s", "inter 100ms"))
        log = self._running.enter_context((self._folder / "haproxy.log").open("wb"))
        process = subprocess.Popen(
            [_program(), "-db", "-f", file], stdout=log, stderr=subprocess.STDOUT
        )
        self._running.callback(process.wait)
        self._running.callback(process.terminate)
        port = int(self.url.rpartition(":")[2])
        wait_until_healthy(Server(port, process, self._folder / "haproxy.log"))
        return self

    def __exit__(self, *_: object) -> None:
        for stack in self._each:
            stack.close()
        self._running.close()

    def _start(self, index: int) -> Server:
        port = self._ports[index]
        command = serving_command("notes_env.app", port)
        return self._each[index].enter_context(
            running_server(command, self._folder, port=port, env=self._variables)
        )

    def restart(self, index: int) -> None:
        """Start a server again, after it was killed or stopped, and wait until it is used."""
        self._each[index].close()
        self.servers[index] = self._start(index)
        wait_until(lambda: self.statistics(f"s{index + 1}")["status"] == "UP", _PATIENCE_S)

    def sessions(self) -> list[int]:
        """The open sessions of each server."""
        answers = [
            requests.get(f"{server.url}/sessions", timeout=_PATIENCE_S) for server in self.servers
        ]
        return [answer.json()["active_sessions"] for answer in answers]

    def statistics(self, name: str = "BACKEND") -> dict[str, str]:
        """HAProxy's figures of a server that has sessions, or of all of them."""
        url = f"http://127.0.0.1:{self._statistics_port}/;csv"
        text = requests.get(url, timeout=_PATIENCE_S).text
        (row,) = (
            row
            for row in csv.DictReader(text.splitlines())
            if (row["# pxname"], row["svname"]) == ("sessions", name)
        )
        return row

    @property
    def waiting(self) -> int:
        """Clients that wait for a place."""
        return int(self.statistics()["qcur"])
