# SPDX-License-Identifier: BSD-3-Clause
"""The inspector's script: its modules in one file, which a browser loads with one request.

Each module becomes a function that returns what it exports. A module exports functions and
constants by their declarations, and imports names from other modules; nothing else is supported.
"""

import re

from stepwire.server.pages.security import FILES

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const) (\w+))", re.MULTILINE)


def page_script(name: str = "inspector") -> str:
    """The module and all modules that it imports, each after those that it needs."""
    functions: dict[str, str] = {}
    _add(name, functions)
    return '"use strict";\n' + "".join(functions.values())


def _add(name: str, functions: dict[str, str]) -> None:
    source = (FILES / f"{name}.js").read_text("utf-8")
    for _, imported in _IMPORT.findall(source):
        if imported not in functions:
            _add(imported, functions)
    exported = ", ".join(_EXPORT.findall(source))
    body = _EXPORT.sub("", _IMPORT.sub(r"const \1 = $\2;\n", source))
    functions[name] = f"const ${name} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"
