# SPDX-License-Identifier: BSD-3-Clause
"""Runs a module like `python -m`, and stops when the process that started it has ended.

python -m stepwire._owned_server MODULE [OPTION…]

Standard input is a pipe to which the owner writes nothing. Its end means that the owner has ended,
even if it was killed. This module stands outside `stepwire.client`, which a server must not import.
"""

import os
import runpy
import signal
import sys
import threading


def _end_with_owner() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_owner, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
