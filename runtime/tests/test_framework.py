# SPDX-License-Identifier: BSD-3-Clause
"""Only the modules in use are imported of the framework, and all of it works for other code."""

import importlib
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stepwire import _framework

_HEAVY = "sorted({'gradio', 'fastmcp'} & set(sys.modules))"


@pytest.fixture
def prints(run: Callable[..., Any]) -> Callable[..., str]:
    """What a program prints, in an interpreter of its own in which a warning is an error."""

    def prints(*lines: str, flags: tuple[str, ...] = ("-W", "error::RuntimeWarning")) -> str:
        done = run(*flags, "-c", "\n".join(("import sys", *lines)))
        assert done.returncode == 0, done.stderr
        return str(done.stdout.strip())

    return prints


@pytest.mark.parametrize("module", ["notes_env.client", "notes_env.app"])
def test_neither_client_nor_server_load_what_they_do_not_use(
    prints: Callable[..., str], module: str
) -> None:
    assert prints(f"import {module}", f"print({_HEAVY})") == "[]"


def test_a_client_loads_requests_only_when_the_framework_uses_it(
    prints: Callable[..., str],
) -> None:
    lines = """\
import notes_env.client
assert "requests" not in sys.modules
from openenv.core.containers.runtime import uv_provider
get = uv_provider.requests.get
import requests, requests.exceptions
assert type(requests) is type(sys) and requests.get is get
from stepwire._framework import imported_later
with imported_later("requests"):
    import requests as early
assert early is requests is sys.modules["requests"]
import threading
with imported_later("wsgiref"):
    import wsgiref as later
    thread = threading.Thread(target=__import__, args=["wsgiref.util"])
    thread.start()
    thread.join()
import wsgiref
assert later is not wsgiref and later.util is wsgiref.util and later.__path__"""
    assert prints(lines) == ""


def test_a_server_whose_tools_are_functions_does_not_load_fastmcp(
    prints: Callable[..., str],
) -> None:
    lines = """\
from fastapi.testclient import TestClient
from notes_env.app import app
request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
with TestClient(app) as client:
    print(len(client.post("/mcp", json=request).json()["result"]["tools"]))"""
    assert prints(lines, f"print({_HEAVY})") == "2\n[]"


# Makes an interpreter in which gradio cannot be imported, as where it is not installed: that also
# saves the seconds that importing it takes.
_WITHOUT_GRADIO = """\
class RefuseGradio:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "gradio":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, RefuseGradio())"""

_USE_OF_THE_WHOLE_FRAMEWORK = """\
import openenv.core, openenv.core.env_server, openenv.core.env_server.types
from openenv.core import *
assert EnvClient is openenv.core.EnvClient is openenv.core.env_client.EnvClient
assert openenv.core.env_server.create_app
assert issubclass(notes_env.models.NoteAction, openenv.core.env_server.Action)
assert openenv.core.env_server.types.Action is openenv.core.env_server.Action
assert not hasattr(openenv.core, "no_such_name") and not hasattr(openenv.core, "__wrapped__")
print(openenv.core.__name__, type(openenv.core).__name__)"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["notes_env.models", "openenv.core"])
def test_the_framework_is_whole_in_either_order_of_imports_where_gradio_is_not_installed(
    prints: Callable[..., str], first: str
) -> None:
    printed = prints(
        _WITHOUT_GRADIO, f"import {first}, notes_env.models", _USE_OF_THE_WHOLE_FRAMEWORK
    )
    assert printed == "openenv.core module"


@pytest.mark.slow
def test_the_framework_and_gradio_are_whole_after_the_package(prints: Callable[..., str]) -> None:
    printed = prints(
        "import notes_env.models",
        _USE_OF_THE_WHOLE_FRAMEWORK,
        "from openenv.core.env_server import create_web_interface_app",
        "assert openenv.core.create_web_interface_app is create_web_interface_app",
        "import gradio",
    )
    assert printed == "openenv.core module"


def test_the_server_works_where_gradio_is_not_installed(prints: Callable[..., str]) -> None:
    printed = prints(_WITHOUT_GRADIO, "import notes_env.app as module", "print(module.app.title)")
    assert printed == "notes_env HTTP API"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes packages to be imported: `packages("name", "source of its __init__")`."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> None:
        folder = tmp_path.joinpath(*name.split("."))
        folder.mkdir()
        (folder / "__init__.py").write_text(source)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_a_postponed_package_runs_once_when_a_name_is_missed(
    packages: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    packages("postponing", "")
    packages("postponing.once", "print('runs')\nvalue = 5")
    packages("postponing.once.inner", "other = 6")
    _framework.postpone("postponing.once")
    _framework.postpone("postponing.once.inner")
    module = importlib.import_module("postponing.once")
    inner = importlib.import_module("postponing.once.inner")
    assert capsys.readouterr().out == ""
    assert (inner.other, capsys.readouterr().out) == (6, "")
    assert (module.value, module.value, capsys.readouterr().out) == (5, 5, "runs\n")
    assert module.inner is inner
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_a_postponed_package_that_fails_is_tried_again(
    packages: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "first_attempt", True, raising=False)
    packages("postponing", "")
    packages(
        "postponing.failing",
        "import sys\nif sys.first_attempt: raise OSError('not yet')\nvalue = 5",
    )
    packages("postponing.failing.inner", "")
    _framework.postpone("postponing.failing")
    module = importlib.import_module("postponing.failing")
    with pytest.raises(OSError, match="not yet"):
        _ = module.value
    monkeypatch.setattr(sys, "first_attempt", False)
    assert module.value == 5


def test_a_package_that_reads_itself_while_it_runs_finds_what_is_there(
    packages: Callable[[str, str], None],
) -> None:
    packages("postponing", "")
    source = "import sys\nself = sys.modules[__name__]\nfound = hasattr(self, 'late')\nlate = 5"
    packages("postponing.reflexive", source)
    _framework.postpone("postponing.reflexive")
    module = importlib.import_module("postponing.reflexive")
    assert (module.found, module.late) == (False, 5)


def test_threads_that_need_a_package_at_the_same_time_all_get_it_whole(
    packages: Callable[[str, str], None],
) -> None:
    packages("postponing", "")
    packages("postponing.raced", "import time\ntime.sleep(0.3)\nvalue = 5\nruns = [1]")
    _framework.postpone("postponing.raced")
    module = importlib.import_module("postponing.raced")
    start = threading.Barrier(4)

    def touch(_: int) -> Any:
        start.wait()
        return module.value

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(touch, range(4))) == [5] * 4


@pytest.mark.slow
def test_threads_that_first_touch_the_framework_together_all_get_it(
    prints: Callable[..., str],
) -> None:
    assert prints(_WITHOUT_GRADIO, _RACE) == "{'create_app'} {'EnvClient'}"


_RACE = """
import stepwire, openenv.core, threading
from concurrent.futures import ThreadPoolExecutor
start = threading.Barrier(8)

def touch(index):
    start.wait()
    if index % 2:
        from openenv.core import EnvClient
        return EnvClient.__name__
    return openenv.core.env_server.create_app.__name__

with ThreadPoolExecutor(8) as threads:
    found = list(threads.map(touch, range(8)))
print(set(found[::2]), set(found[1::2]))
"""


def test_what_is_loaded_or_does_not_exist_is_not_postponed() -> None:
    _framework.postpone("json")
    assert type(sys.modules["json"]).__name__ == "module"
    _framework.postpone("no_such_package_anywhere")
    assert "no_such_package_anywhere" not in sys.modules


@pytest.fixture
def distributions(tmp_path: Path) -> Callable[..., Path]:
    """A folder in which the named distributions are installed, at version 1."""

    def install(*names: str) -> Path:
        for name in names:
            folder = tmp_path / f"{name.replace('-', '_')}-1.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        return tmp_path

    return install


def test_importing_the_package_warns_when_both_distributions_are_installed(
    distributions: Callable[..., Path], run: Callable[..., Any]
) -> None:
    folder = distributions("openenv", "openenv-core")
    program = folder / "program.py"
    program.write_text("import stepwire")
    done = run(program, env={"PYTHONPATH": str(folder)})
    assert f"{program}:1: RuntimeWarning" in done.stderr
    assert "openenv-core 1 and openenv 1 are both installed" in done.stderr
    assert "pip uninstall -y openenv openenv-core" in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("installed", [["openenv"], ["openenv-core"], []], ids=str)
def test_one_distribution_is_fine(
    distributions: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, installed: list[str]
) -> None:
    monkeypatch.setattr(sys, "path", [str(distributions(*installed))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _framework.warn_if_both_distributions_are_installed()


def test_both_distributions_are_named_in_the_warning(
    distributions: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(distributions("openenv", "openenv-core"))])
    with pytest.warns(RuntimeWarning, match="openenv-core 1 and openenv 1 are both installed"):
        _framework.warn_if_both_distributions_are_installed()
