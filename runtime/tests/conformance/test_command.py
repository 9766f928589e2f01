# SPDX-License-Identifier: BSD-3-Clause
"""`python -m stepwire.conformance`: what it prints and writes, and its exit codes."""

import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from stepwire.conformance.__main__ import main
from stepwire.conformance.contract import ROWS, VERSION
from stepwire.conformance.registry import CHECKS
from stepwire.conformance.report import Progress

_STEP, _METADATA = CHECKS["ws-step"], CHECKS["ws-metadata"]  # a MUST and a SHOULD


def _command(*arguments: str | Path) -> int:
    # A busy server may take longer than the 10 s by default. Of two `--timeout`s, the last counts.
    return main(["--timeout", "60", *map(str, arguments)])


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table and the help wrap at the terminal's width."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def broken(broken_servers: Any) -> Callable[[str], str]:
    """The address of a server that fails a check."""
    return lambda check_id: f"{broken_servers.url}/{check_id}"


def test_it_is_run_with_python_m(server: Any, run: Any) -> None:
    done = run("-m", "stepwire.conformance", server.url, "--only", "ws-step")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed" in done.stdout


def test_the_table_has_every_check_and_names_the_options_of_those_not_run(
    broken: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [check.id for check in CHECKS.values() if check.needs is None]
    ids.remove("mcp-handshake")  # the server would load FastMCP, which takes seconds
    assert _command(broken("sound"), "--only", *ids) == 0
    output = capsys.readouterr().out
    assert all(f" {check_id} " in output for check_id in ids)
    needs = [check.needs for check in CHECKS.values() if check.needs]
    options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(set(needs)))
    not_run = f"{len(needs)} checks not run; they need: {options}"
    assert not_run in " ".join(output.split())
    assert f"{len(ids)} passed" in output


def test_a_failed_must_is_exit_code_1_with_cause_and_fix(
    broken: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command(broken("ws-step"), "--only", "ws-step", "ws-state") == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "Expected a boolean as `done`, got {" in output
    assert f"Likely cause: {_STEP.cause} Fix: {_STEP.fix}" in output
    assert "1 passed, 1 failed" in output


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 1)])
def test_a_failed_should_is_a_warning_unless_strict(
    broken: Callable[[str], str], options: list[str], code: int
) -> None:
    assert _command(broken("ws-metadata"), "--only", "ws-metadata", *options) == code


def test_a_check_in_the_baseline_may_fail_and_has_to(
    broken: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "known"
    baseline.write_text("# our server is young\n\nws-step  # issue 5\n")
    options = ("--baseline", baseline, "--only", "ws-step", "ws-state")
    assert _command(broken("ws-step"), *options) == 0
    assert "1 passed, 1 known" in capsys.readouterr().out
    assert _command(broken("sound"), *options) == 1
    assert "remove it from the baseline" in " ".join(capsys.readouterr().out.split())


def test_the_results_as_json_and_as_junit(
    broken: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xml = tmp_path / "junit.xml"
    url = broken("ws-step")
    assert _command(url, "--only", "ws-step", "ws-state", "--json", "-", "--junit", xml) == 1
    output = json.loads(capsys.readouterr().out)
    assert (output["contract"], output["url"]) == (VERSION, url)
    (step, state) = output["checks"]
    assert (step["id"], step["row"], step["level"]) == ("ws-step", "WS-3", "MUST")
    assert (step["verdict"], state["verdict"]) == ("failed", "passed")
    suite = ElementTree.parse(xml).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    (failure,) = suite.findall("./testcase[@name='ws-step']/failure")
    assert failure.text == step["message"]


def test_json_and_junit_of_warnings_and_known_failures(
    broken: Callable[[str], str], tmp_path: Path
) -> None:
    baseline, written, xml = tmp_path / "known", tmp_path / "results.json", tmp_path / "junit.xml"
    baseline.write_text("ws-metadata\n")
    only = ("--only", "ws-metadata", "--json", written, "--junit", xml)
    assert _command(broken("ws-metadata"), *only) == 0
    assert json.loads(written.read_text())["checks"][0]["verdict"] == "warned"
    output = ElementTree.parse(xml).getroot().findtext(".//system-out")
    assert output is not None
    assert _METADATA.fix in output
    assert _command(broken("ws-metadata"), *only, "--baseline", baseline) == 0
    assert ElementTree.parse(xml).getroot().get("skipped") == "1"


def test_actions_are_taken_from_a_file(
    broken: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actions = tmp_path / "actions.jsonl"
    actions.write_text('{"text": "fail"}\n')  # at which the environment raises
    assert _command(broken("sound"), "--actions", actions, "--only", "ws-step") == 1
    assert "EXECUTION_ERROR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "files", "reason"),
    [
        (["--only", "ws-dance"], {}, "Unknown checks: ws-dance"),
        (["--baseline", "nowhere"], {}, "nowhere"),
        (["--baseline", "known"], {"known": "ws-dance"}, "checks that do not exist: ws-dance"),
        (["--actions", "actions"], {"actions": "\n"}, "has no actions"),
        (["--actions", "actions"], {"actions": "5"}, "An action is a JSON object, not 5"),
        (["--failing-action", "{"], {}, "Expecting"),
        (["--only", "ops-token"], {}, "--only cannot run: ops-token needs --token"),
        (["--only", "ws-step", "ops-stop"], {}, "ops-stop needs --stop-pid"),
        (["--json", "nowhere/results.json"], {}, "nowhere/results.json"),
        (["--junit", "."], {}, "Is a directory: '.'"),
        (["--stop-pid", "0"], {}, "--stop-pid is the id of the server's process, not 0"),
        (["--stop-pid", "-1"], {}, "--stop-pid is the id of the server's process, not -1"),
        (["--timeout", "0"], {}, "--timeout is a number above 0, not 0.0"),
        (["--timeout", "nan"], {}, "--timeout is a number above 0, not nan"),
        (["--idle-timeout-s", "inf"], {}, "--idle-timeout-s is a number above 0, not inf"),
        (["--capacity", "0"], {}, "--capacity is a number above 0, not 0"),
        (["--deadline", "-5"], {}, "--deadline is a number above 0, not -5"),
    ],
)
def test_a_bad_argument_is_exit_code_2(
    server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    files: dict[str, str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert _command(server.url, *arguments) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://127.0.0.1", "The address is http://host:port or https://…, not 'ftp://127.0.0.1'"),
        ("http://127.0.0.1?x=1", "without a query: http://host:port, not"),
        ("127.0.0.1:8000/#part", "without a query: http://host:port, not"),
        ("http://", "without a query: http://host:port, not"),
        ("http://me:secret@127.0.0.1", "a user or a password: pass a token with --token"),
        ("http://127.0.0.1:port", "Port could not be cast"),
    ],
)
def test_a_bad_address_is_exit_code_2(
    address: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command(address) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert "secret" not in error


def test_a_file_of_certificates_holds_for_http_and_websockets(
    tls_url: str, authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    only = ("--only", "http-health", "ws-state", "--timeout", "60")
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    assert _command(tls_url, *only) == 2
    assert _command(tls_url, *only, "--ca-file", trusted) == 0
    assert _command(tls_url, *only, "--ca-file", tmp_path / "nowhere.pem") == 2
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert _command(tls_url, *only) == 0


def test_a_server_that_answers_byte_by_byte_does_not_hold_the_run(
    tmp_path: Path, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", free_port)) as listening:
        threading.Thread(target=_drip, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{free_port}"
        assert _command(url, "--timeout", "0.3", "--only", "ws-step") == 2
        assert "GET /health: no complete answer within 0.3 s" in capsys.readouterr().err


def _drip(listening: socket.socket) -> None:
    kept = []
    while True:
        try:
            connection = listening.accept()[0]
        except OSError:
            return
        kept.append(connection)

        def answer(connection: socket.socket = connection) -> None:
            with suppress(OSError):
                for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\nX: "):
                    connection.sendall(bytes([byte]))
                    time.sleep(0.02)

        threading.Thread(target=answer, daemon=True).start()


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that is healthy, and answers nothing else before the test ends."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/health":
                ended.wait()
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        ended.set()
        server.shutdown()


def test_the_whole_run_has_a_deadline(silent_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    # On a server that answers, a check may pass before the command looks at the time, and those
    # that are given up take its places from the next tests.
    assert _command(silent_url, "--deadline", "0.000001") == 2
    output = " ".join(capsys.readouterr().out.split())
    assert "The checks were to end within 1e-06 s." in output
    assert "1 passed" not in output


def test_a_run_says_which_check_it_is_at(
    broken: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, log = io.StringIO(), io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    for stream in (screen, log):
        progress = Progress(2, stream)
        progress.show(1, _STEP)
        progress.show(2, _METADATA)
        progress.clear()
    assert screen.getvalue() == "\r\x1b[K1 of 2: ws-step\r\x1b[K2 of 2: ws-metadata\r\x1b[K"
    assert log.getvalue() == ""  # its lines are seconds apart


def test_an_unreachable_server_is_exit_code_2(
    free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command(f"127.0.0.1:{free_port}") == 2
    assert f"No server answers at http://127.0.0.1:{free_port}" in capsys.readouterr().err


def test_bad_options_are_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        _command()
    assert stopped.value.code == 2
    assert "the following arguments are required: url" in capsys.readouterr().err


def test_the_help_names_the_frameworks_own_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        _command("--help")
    assert "`openenv validate` checks an environment's package" in capsys.readouterr().out


def test_a_check_has_its_row_of_the_contract() -> None:
    assert ROWS[_STEP.row.id] is _STEP.row
