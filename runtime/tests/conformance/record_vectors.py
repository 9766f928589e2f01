# SPDX-License-Identifier: BSD-3-Clause
"""Writes `stepwire/conformance/vectors/`: plays `vector_cases.py` to servers and records answers.

uv run python runtime/tests/conformance/record_vectors.py

`test_vectors.py` fails when the servers' answers differ from those of the files.
"""

import os
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from vector_cases import CASES
from vector_events import Case, Event
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from stepwire.conformance.contract import VERSION
from stepwire.conformance.vectors import FOLDER, Vector, matches, text_to_send
from stepwire.testing.servers import reserved_port, running_server, serving_command

_PATIENCE_S = 60.0
_HERE = Path(__file__).parent

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# Text that differs from one recording to the next.
_VARYING = re.compile(
    rf"(?P<key>episode_id|session_id)\W+(?P<id>{_UUID})"
    r"|\(id (?P<failure>[0-9a-f]{12})\)"
    r"|openenv_episode=(?P<cookie>[^;]{20,})"
)


class Conversations:
    """The connections of one vector; each is opened at its first event."""

    def __init__(self, url: str, case: Case, known: dict[str, str]) -> None:
        self._url = url.replace("http", "ws", 1)
        self._case = case
        self._known = known
        self._open: dict[str, ClientConnection] = {}
        self._stack = ExitStack()

    def __getitem__(self, name: str) -> ClientConnection:
        """Raises `InvalidStatus` when the handshake is refused."""
        if name not in self._open:
            connection = connect(
                self._url + text_to_send(self._case.path, self._known),
                additional_headers=self._case.headers,
                compression=None,
                max_size=None,
                proxy=None,
                open_timeout=_PATIENCE_S,
            )
            self._open[name] = self._stack.enter_context(connection)
        return self._open[name]

    def close(self) -> None:
        self._stack.close()


class Recorder:
    """Plays a case to a server and records its answers."""

    def __init__(self, case: Case, url: str, stopping_pid: int) -> None:
        self._case = case
        self._stopping_pid = stopping_pid
        self._url = url
        self._known: dict[str, str] = {}
        self._conversations = Conversations(url, case, self._known)
        self._response = requests.Response()

    def record(self) -> Vector:
        case = self._case
        try:
            events = [self._answered(event) for events in case.events for event in events]
        finally:
            self._conversations.close()
        rows = tuple(case.rows.split())
        return Vector(case.id, VERSION, rows, case.server, case.path, case.headers, tuple(events))

    def _answered(self, event: Event) -> Event:
        if "request" in event:
            self._request(event["request"])
            return event
        if "response" in event:
            return {"response": self._recorded_response(event["response"])}
        if "stop" in event:
            os.kill(self._stopping_pid, signal.SIGTERM)
            return event
        name = event.get("on", "")
        if "refused" in event:
            return event | {"refused": self._refusal(name)}
        connection = self._conversations[name]
        if "send" in event:
            connection.send(text_to_send(event["send"], self._known))
        elif "send_hex" in event:
            connection.send(bytes.fromhex(event["send_hex"]))
        elif "send_raw_hex" in event:
            connection.socket.sendall(bytes.fromhex(event["send_raw_hex"]))
        elif "expect" in event:
            text = str(connection.recv(timeout=_PATIENCE_S))
            return event | {"expect": self._generalised(text, event["expect"])}
        else:
            return event | {"closed": _end(connection)}
        return event

    def _request(self, sent: dict[str, Any]) -> None:
        body = sent.get("body")
        headers = {
            name: text_to_send(value, self._known)
            for name, value in sent.get("headers", {}).items()
        }
        self._response = requests.request(
            sent["method"],
            self._url + sent["path"],
            data=None if body is None else text_to_send(body, self._known).encode(),
            headers={"Content-Type": "application/json", **headers},
            timeout=_PATIENCE_S,
        )

    def _recorded_response(self, expected: dict[str, Any]) -> dict[str, Any]:
        response = self._response
        recorded: dict[str, Any] = {"status": response.status_code}
        if expected["headers"]:
            recorded["headers"] = {
                name: self._generalised(response.headers[name], None)
                for name in expected["headers"]
            }
        return recorded | {"body": self._generalised(response.text, expected["body"])}

    def _refusal(self, name: str) -> int:
        try:
            self._conversations[name]
        except InvalidStatus as refused:
            return refused.response.status_code
        raise AssertionError(f"{self._case.id}: the handshake was accepted")

    def _generalised(self, text: str, like: str | None) -> str:
        if like is None:
            return _VARYING.sub(self._named, text)
        if not matches(like, text, self._known):
            raise AssertionError(f"{self._case.id}: {text[:500]} does not match {like}")
        return like

    def _named(self, found: re.Match[str]) -> str:
        """The matched text with a placeholder for its varying part."""
        kind = found.lastgroup or ""
        value = found[kind]
        base = {"id": found["key"], "failure": "failure_id"}.get(kind, kind)
        names = [name for name in self._known if re.fullmatch(rf"{base}_?\d*", name)]
        for name in names:
            if self._known[name] == value:
                break
        else:
            name = f"{base}{len(names) + 1}" if names else base
            self._known[name] = value
        return found[0].replace(value, f"${{{name}}}")


def _end(connection: ClientConnection) -> dict[str, Any]:
    try:
        unwanted = connection.recv(timeout=_PATIENCE_S)
    except ConnectionClosed as ended:
        received = ended.rcvd
    else:
        raise AssertionError(f"Expected the connection to be closed, got {unwanted!r:.200}")
    assert received is not None, "The connection was lost without a close frame"
    return {"code": received.code, "reason": received.reason}


def record(urls: Mapping[str, str], stopping_pid: int) -> dict[str, str]:
    """The content of each file; `urls` are the addresses of the servers that cases name.

    `stopping_pid` is the process id of the server named `stopping`.
    """
    return {
        f"{name}.jsonl": "".join(
            Recorder(case, urls[case.server], stopping_pid).record().as_line() + "\n"
            for case in cases
        )
        for name, cases in CASES.items()
    }


def main() -> None:
    environment = {"PYTHONPATH": str(_HERE.parent)}
    with ExitStack() as servers, TemporaryDirectory() as folder:

        def serve(application: str | Path, **variables: str) -> tuple[str, int]:
            port = servers.enter_context(reserved_port())
            command = serving_command(application, port)
            running = running_server(command, Path(folder), port=port, env=environment | variables)
            server = servers.enter_context(running)
            return server.url, server.process.pid

        broken, _ = serve(_HERE / "broken_servers.py")
        stopping, pid = serve("notes_env.app")
        urls = {
            "default": serve("notes_env.app")[0],
            "full": serve("notes_env.app", MAX_CONCURRENT_ENVS="1")[0],
            "impatient": serve("notes_env.app", SESSION_IDLE_TIMEOUT_S="1")[0],
            "stopping": stopping,
            "failing": f"{broken}/sound",
            "unbuildable": f"{broken}/sound/unbuildable",
            "guarded": f"{broken}/guarded",
        }
        files = record(urls, pid)
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(files)} files written to {FOLDER}", file=sys.stderr)


if __name__ == "__main__":
    main()
