# SPDX-License-Identifier: BSD-3-Clause
"""Makes `import echo_env` work in a checkout that is not installed.

Everything here imports absolutely, as an installed package does. But the repository's root *is* the
package, under whatever name the folder was cloned, so `uvicorn server.app:app`, `python server/…`
and an image that only copies the folder would not find `echo_env`. `server/__init__.py` and the
files that also run as scripts import this module first. Where `echo_env` is installed it is only
imported, before the framework, whose import it makes cheap (`stepwire._framework`).
"""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

if (
    "echo_env" not in sys.modules and find_spec("echo_env") is None
):  # pragma: no cover - its interpreters are not measured
    _root = Path(__file__).resolve().parent.parent
    _spec = spec_from_file_location(
        "echo_env", _root / "__init__.py", submodule_search_locations=[str(_root)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    _package = module_from_spec(_spec)
    sys.modules["echo_env"] = _package
    _spec.loader.exec_module(_package)

import echo_env  # noqa: F401
