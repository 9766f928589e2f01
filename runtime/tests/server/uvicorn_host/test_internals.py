# SPDX-License-Identifier: BSD-3-Clause
"""Each internal of uvicorn that the runtime uses is where it was; a failure names what moved."""

import asyncio
import inspect
import signal
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
import uvicorn
import websockets
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from uvicorn.supervisors.multiprocess import Process

from stepwire.server.uvicorn_host import internals
from stepwire.server.uvicorn_host.http_protocol import HttpProtocol
from stepwire.server.uvicorn_host.websocket_protocol import WebSocketProtocol

_USED_IN = "stepwire/server/uvicorn_host"


def _moved(what: str, look_at: str) -> str:
    versions = f"uvicorn {uvicorn.__version__} with websockets {websockets.__version__}"
    return f"{versions} no longer has {what}; look at {_USED_IN}/{look_at}"


def _require(owner: Any, name: str, look_at: str) -> Any:
    where = owner if isinstance(owner, type) else type(owner)
    assert hasattr(owner, name), _moved(f"{where.__name__}.{name}", look_at)
    return getattr(owner, name)


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Never called."""


def _config(**options: Any) -> uvicorn.Config:
    return uvicorn.Config(_application, log_config=None, **options)


def _in_loop(function: Callable[[], Any]) -> Any:
    async def run() -> Any:
        return function()

    return asyncio.run(run())


def _protocol(protocol_cls: Any) -> Any:
    config = _config()
    config.load()
    return _in_loop(lambda: protocol_cls(config, ServerState(), {}, asyncio.get_running_loop()))


@pytest.mark.parametrize(
    "name",
    ["ws_ping_interval", "ws_ping_timeout", "timeout_keep_alive", "ws_max_size"],
)
def test_an_option_has_a_default_that_shows_whether_it_is_set(name: str) -> None:
    parameters = inspect.signature(uvicorn.Config).parameters
    assert name in parameters, _moved(f"the option {name} of Config", "lifecycle.py")
    assert _require(_config(), name, "lifecycle.py") == internals.default_option(name)


@pytest.mark.parametrize("name", ["host", "uds", "fd", "timeout_graceful_shutdown"])
def test_the_configuration_keeps_an_option_under_its_name(name: str) -> None:
    _require(_config(), name, "worker.py and lifecycle.py")


def test_the_signal_handler_is_a_method_of_the_server() -> None:
    server = uvicorn.Server(_config())
    before = signal.getsignal(signal.SIGTERM)
    with _require(server, "capture_signals", "internals.py: running_server")():
        found = internals.running_server()
    assert found is server, _moved("a Server whose method handles SIGTERM", "internals.py")
    assert signal.getsignal(signal.SIGTERM) is before
    assert internals.running_server() is None


def test_the_server_stops_when_its_signal_handler_is_called() -> None:
    server = uvicorn.Server(_config())
    _require(server, "handle_exit", "internals.py: request_exit")
    internals.request_exit(server, signal.SIGTERM)
    assert server.should_exit, _moved("Server.handle_exit that stops it", "internals.py")


def test_the_server_knows_its_open_connections() -> None:
    state = _require(uvicorn.Server(_config()), "server_state", "internals.py: open_connections")
    assert _require(state, "connections", "internals.py: open_connections") == set()


@pytest.mark.parametrize("protocol_cls", [H11Protocol, HttpToolsProtocol])
@pytest.mark.parametrize("name", ["cycle", "timeout_keep_alive_task", "transport"])
def test_an_http_connection_knows_what_it_waits_for(protocol_cls: Any, name: str) -> None:
    connection = _protocol(protocol_cls)
    assert _require(connection, name, "internals.py: awaited_by") is None
    assert not internals.is_websocket(connection)


@pytest.mark.parametrize("protocol_cls", [H11Protocol, HttpToolsProtocol])
@pytest.mark.parametrize("name", ["response_complete", "more_body"])
def test_a_request_cycle_says_how_far_it_is(protocol_cls: Any, name: str) -> None:
    cycle_cls = inspect.getmodule(protocol_cls).RequestResponseCycle  # type: ignore[union-attr]
    source = inspect.getsource(cycle_cls.__init__)
    assert f"self.{name} = " in source, _moved(f"RequestResponseCycle.{name}", "internals.py")


def test_http_connections_are_of_a_protocol_that_is_known_here() -> None:
    known = (H11Protocol, HttpToolsProtocol)
    assert AutoHTTPProtocol in known, _moved("only these HTTP protocols", "internals.py")


def test_a_websocket_connection_has_no_request_cycle() -> None:
    for protocol_cls in (WebSocketsSansIOProtocol, WebSocketProtocol):
        assert internals.is_websocket(_protocol(protocol_cls)), _moved(
            "WebSocket protocols without `cycle`", "internals.py: is_websocket"
        )


@pytest.mark.parametrize("name", ["url", "headers", "cycle", "flow", "parser", "transport", "loop"])
def test_an_http_connection_has_what_our_protocol_uses(name: str) -> None:
    source = inspect.getsource(HttpToolsProtocol)
    assert f"self.{name}" in source, _moved(f"HttpToolsProtocol.{name}", "http_protocol.py")


@pytest.mark.parametrize(
    "name",
    [
        "data_received",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "on_response_complete",
        "handle_websocket_upgrade",
        "_should_upgrade",
        "_unset_keepalive_if_required",
    ],
)
def test_our_http_protocol_extends_methods_that_uvicorn_has(name: str) -> None:
    theirs = _require(HttpToolsProtocol, name, "http_protocol.py")
    ours = getattr(HttpProtocol, name)
    assert list(inspect.signature(theirs).parameters) == list(inspect.signature(ours).parameters), (
        _moved(f"HttpToolsProtocol.{name} with these parameters", "http_protocol.py")
    )


@pytest.mark.parametrize(
    "name", ["disconnected", "keep_alive", "message_event", "response_started"]
)
def test_a_request_cycle_has_what_our_protocol_uses(name: str) -> None:
    cycle_cls = inspect.getmodule(HttpToolsProtocol).RequestResponseCycle  # type: ignore[union-attr]
    source = inspect.getsource(cycle_cls.__init__)
    assert f"self.{name} = " in source, _moved(f"RequestResponseCycle.{name}", "http_protocol.py")


def test_the_protocol_of_new_connections_is_chosen_when_the_server_listens() -> None:
    source = inspect.getsource(uvicorn.Server.startup)
    listens = source.index("config.http_protocol_class(")
    assert source.index("lifespan.startup()") < listens, _moved(
        "Server.startup, which starts the application first", "lifecycle.py: _use_our_http"
    )


def test_uvicorns_own_choice_of_a_websocket_protocol_is_known() -> None:
    config = _config()
    config.load()
    assert internals.has_default_websockets(config), _moved(
        "Config.ws and its default protocol", "internals.py: has_default_websockets"
    )
    explicit = _config(ws="websockets-sansio")
    explicit.load()
    assert not internals.has_default_websockets(explicit)


def test_a_websocket_connection_says_whether_it_has_the_handshake() -> None:
    connection = _protocol(WebSocketsSansIOProtocol)
    assert _require(connection, "handshake_initiated", "internals.py: has_begun") is False
    answered = _require(connection, "handshake_complete", "internals.py: is_in_handshake")
    assert answered is False
    assert not internals.has_begun(connection)


@pytest.mark.parametrize("name", get_type_hints(internals.UvicornWebSocketProtocol))
def test_a_websocket_connection_has_what_our_protocol_uses(name: str) -> None:
    if name in ("scope", "response"):  # set during the handshake
        source = inspect.getsource(WebSocketsSansIOProtocol.handle_connect)
        assert f"self.{name}" in source, _moved(
            f"WebSocketsSansIOProtocol.{name}", "websocket_protocol.py"
        )
        return
    _require(_protocol(WebSocketsSansIOProtocol), name, "websocket_protocol.py")


@pytest.mark.parametrize(
    "name",
    [
        *("handle_connect", "data_received", "receive", "send", "connection_lost"),
        *("handle_ping", "handle_pong", "handle_text", "handle_bytes", "handle_cont"),
        *("pause_writing", "resume_writing", "send_keepalive_ping", "keepalive_timeout"),
        *("schedule_ping", "on_task_complete", "handle_parser_exception", "shutdown"),
    ],
)
def test_our_websocket_protocol_overrides_methods_that_uvicorn_has(name: str) -> None:
    theirs = _require(WebSocketsSansIOProtocol, name, "websocket_protocol.py")
    ours = getattr(WebSocketProtocol, name)
    assert list(inspect.signature(theirs).parameters) == list(inspect.signature(ours).parameters), (
        _moved(f"WebSocketsSansIOProtocol.{name} with these parameters", "websocket_protocol.py")
    )


def test_uvicorn_uses_of_its_queue_only_what_ours_has() -> None:
    source = inspect.getsource(inspect.getmodule(WebSocketsSansIOProtocol))  # type: ignore[arg-type]
    used = {part.split("(")[0] for part in source.split("self.queue.")[1:]}
    receive = inspect.getsource(WebSocketsSansIOProtocol.receive)
    replaced = {part.split("(")[0] for part in receive.split("self.queue.")[1:]}
    assert used - replaced == {"put_nowait"}, _moved(
        "a queue that only needs put_nowait outside receive()", "websocket_protocol.py: EventQueue"
    )


def test_the_parent_keeps_the_workers_end_of_the_health_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Process] = []
    monkeypatch.setattr(Process, "start", lambda process: started.append(process))
    process = internals.WorkerProcess(_config(), [])
    process.start()
    assert started == [process]
    pipe = _require(process, "child_conn", "internals.py: WorkerProcess.start")
    assert pipe.closed


@pytest.mark.parametrize("name", ["start", "target", "process"])
def test_a_worker_process_has_what_ours_overrides_and_uses(name: str) -> None:
    _require(Process(_config(), []), name, "internals.py: WorkerProcess")


def test_the_parent_makes_workers_by_the_name_that_is_replaced() -> None:
    from uvicorn.supervisors import multiprocess

    source = inspect.getsource(multiprocess.Multiprocess)
    assert "Process(self.config, self.sockets)" in source, _moved(
        "a global `Process` in uvicorn.supervisors.multiprocess", "internals.py: run_workers"
    )


def test_a_connection_of_another_worker_can_be_served() -> None:
    config = _config()
    config.load()
    server = uvicorn.Server(config)
    source = inspect.getsource(uvicorn.Server)
    assert "self.lifespan = " in source, _moved("Server.lifespan", "internals.py: take_connection")
    _require(config.lifespan_class(config), "state", "internals.py: take_connection")
    _require(server.server_state, "tasks", "internals.py: take_connection")
    parameters = set(inspect.signature(config.http_protocol_class).parameters)
    expected = {"config", "server_state", "app_state", "_loop"}
    assert parameters >= expected, _moved("these arguments of a protocol", "internals.py")


@pytest.mark.parametrize(
    "name",
    ["join_all", "terminate_all", "handle_ttin", "processes", "processes_num", "signal_queue"],
)
def test_the_parent_has_what_passes_signals_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from uvicorn.supervisors.multiprocess import Multiprocess

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    _require(Multiprocess(_config(), []), name, "internals.py: Supervisor")


def test_the_log_says_where_the_server_runs() -> None:
    source = inspect.getsource(uvicorn.Server) + inspect.getsource(uvicorn.Config)
    for text in ("Uvicorn running on {addr_format}", '"%s://%s:%d"', '"%s://[%s]:%d"'):
        assert text in source, _moved(f"the line `{text}`", "../logs.py: PageAddresses")


@pytest.mark.parametrize("name", ["LOGGING_CONFIG", "LOG_LEVELS"])
def test_the_logging_configuration_can_be_extended(name: str) -> None:
    from uvicorn import config

    assert hasattr(config, name), _moved(f"uvicorn.config.{name}", "../logs.py: log_config")
    handlers = config.LOGGING_CONFIG["loggers"]["uvicorn"]["handlers"]
    assert handlers == ["default"], _moved("the handler `default`", "../logs.py: log_config")
