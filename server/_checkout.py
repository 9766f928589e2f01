# SPDX-License-Identifier: BSD-3-Clause
"""Makes `import echo_env` work in a clone that is not installed.

Everything imports absolutely, as an installed package does. The repository's root is the package,
but a clone may have any name, so `uvicorn server.app:app` and `python server/app.py` would not find
`echo_env`. `server/__init__.py` and the files that also run as scripts import this module first. It
imports the package before they import the framework: `stepwire` makes that import cheap.
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
