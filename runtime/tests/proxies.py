# SPDX-License-Identifier: BSD-3-Clause
"""Real proxies in front of a server, with the configurations of `docs/operating.md`.

Only for tests with the marker `operating` or `browser`, which have the programs.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stepwire.testing.servers import Server, reserved_port, wait_until_healthy

# For each: the language of its block, where the block listens, what the block is put into, the file
# for that, and the command.
_PROXIES = {
    "nginx": (
        "listen 80;",
        "listen 127.0.0.1:{port};",
        """
daemon off;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    {block}
}}
""",
        "nginx -p {folder} -c configuration -e error.log",
    ),
    "haproxy": (
        "bind :80",
        "bind 127.0.0.1:{port}",
        "{block}",
        "haproxy -db -f {folder}/configuration",
    ),
    "caddy": (
        "example.org {",
        "http://127.0.0.1:{port}, http://example.org:{port} {{",
        "{{\n    admin off\n}}\n{block}",
        "caddy run --adapter caddyfile --config {folder}/configuration",
    ),
}


@pytest.fixture
def behind_proxy(root: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Puts a server behind a proxy: `behind_proxy("nginx", server)` is its address.

    `changes` are replacements in the documented configuration.
    """
    page = (root / "docs" / "operating.md").read_text()
    with ExitStack() as running:

        def serve(name: str, server: Server, changes: dict[str, str] | None = None) -> str:
            documented, listening, around, command = _PROXIES[name]
            block = page.split(f"```{name}\n")[1].split("```")[0]
            port = running.enter_context(reserved_port())
            own = {documented: listening.format(port=port), "127.0.0.1:8000": _address(server)}
            for old, new in {**own, **(changes or {})}.items():
                assert old in block
                block = block.replace(old, new)
            folder = tmp_path / f"{name}-{port}"
            folder.mkdir()
            text = around.format(folder=folder, block=block)
            (folder / "configuration").write_text(text)
            # Debian installs them in a folder that only root's PATH has.
            path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
            variables = os.environ | {
                "PATH": path,
                "HOME": str(folder),
                "XDG_DATA_HOME": str(folder),
            }
            with (folder / "output").open("wb") as output:
                process = subprocess.Popen(
                    command.format(folder=folder).split(),
                    env=variables,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            running.callback(process.wait)
            running.callback(process.terminate)
            proxied = Server(port, process, folder / "output")
            wait_until_healthy(proxied, "/echo/health")
            return f"{proxied.url}/echo"

        yield serve


@pytest.fixture
def behind_nginx(behind_proxy: Callable[..., str]) -> Callable[[Server], str]:
    """Puts a server behind nginx: `behind_nginx(server)` is its address."""
    return lambda server: behind_proxy("nginx", server)


def _address(server: Server) -> str:
    return f"127.0.0.1:{server.port}"
