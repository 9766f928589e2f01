# SPDX-License-Identifier: BSD-3-Clause
"""Serves environments, each in a process of its own: `python -m compatibility.processes`.

Each line on stdin is a port, the name of a module that has the application, and the folder that the
module is in. The framework takes seconds to import, so this process imports it once and forks for
each line. All servers end when stdin is closed.
"""

import stepwire  # noqa: F401 - first: so the framework's server comes without its Gradio pages

# isort: split
import importlib
import os
import signal
import sys

import fastmcp  # noqa: F401
import uvicorn

import compatibility.served_by  # noqa: F401


def main() -> None:
    children = []
    for line in sys.stdin:
        port, module, folder = line.rstrip("\n").split(" ", 2)
        child = os.fork()
        if child == 0:
            os.close(sys.stdin.fileno())
            sys.path.insert(0, folder)
            uvicorn.run(importlib.import_module(module).app, port=int(port), ws="websockets-sansio")
            sys.exit()
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
