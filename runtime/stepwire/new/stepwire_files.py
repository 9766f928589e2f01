# SPDX-License-Identifier: BSD-3-Clause
"""`stepwire` for an environment to carry: as a wheel, or as a copy inside its package.

Both are made of the installed files, so nothing is built and nothing is downloaded.
"""

import base64
import hashlib
import io
import re
import zipfile
from importlib import metadata
from pathlib import Path

from stepwire import __version__
from stepwire.new.names import NewEnvironmentError
from stepwire.new.template import template_files

_ROOT = Path(__file__).resolve().parent.parent
_METADATA = ("METADATA", "entry_points.txt", "top_level.txt", "licenses/LICENSE")
_MODULES = "|".join(
    sorted(path.stem for path in _ROOT.iterdir() if path.name[:2] != "__" and path.stem != "py")
)


def packed_wheel() -> tuple[str, bytes]:
    """The name and the content of a wheel of this `stepwire`."""
    name = f"stepwire-{__version__}"
    contents = {f"stepwire/{path}": file.read_bytes() for path, file in _files().items()}
    contents |= {
        f"stepwire/new/packed_template/{path}": file.read_bytes()
        for path, file in template_files().items()
    }
    information = f"{name}.dist-info"
    for entry in _METADATA:
        text = _distribution().read_text(entry)
        if text is not None:
            contents[f"{information}/{entry}"] = text.encode()
    contents[f"{information}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: stepwire.new\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    rows = [f"{path},{_digest(content)},{len(content)}\n" for path, content in contents.items()]
    contents[f"{information}/RECORD"] = "".join([*rows, f"{information}/RECORD,,\n"]).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in contents.items():  # the date is fixed, for the same wheel each time
            entry_ = zipfile.ZipInfo(path)
            entry_.external_attr = 0o644 << 16
            wheel.writestr(entry_, content, zipfile.ZIP_DEFLATED)
    return f"{name}-py3-none-any.whl", archive.getvalue()


def vendored(package: str) -> dict[str, bytes]:
    """The files of `stepwire` as part of `package`, by path, without `stepwire.new`."""
    files = {
        f"stepwire/{path}": vendored_text(file.read_text("utf-8"), package).encode()
        if file.suffix == ".py"
        else file.read_bytes()
        for path, file in _files().items()
        if not path.startswith("new/")
    }
    licence = _distribution().read_text("licenses/LICENSE")
    return files | ({"stepwire/LICENSE": licence.encode()} if licence else {})


def vendored_text(text: str, package: str) -> str:
    """`text` with `stepwire` imported from `package`."""
    inside = f"{package}.stepwire"
    text = re.sub(r"\bfrom stepwire import\b", f"from {inside} import", text)
    text = re.sub(r"(?m)^import stepwire\b(?!\.)", f"from {package} import stepwire", text)
    return re.sub(rf"(?<![\w.])stepwire(?=\.(?:{_MODULES})\b)", inside, text)


def requirements() -> list[str]:
    """What `stepwire` depends on, without its extras."""
    required = _distribution().requires or []
    return [text for text in required if "extra ==" not in text]


def _files() -> dict[str, Path]:
    return {
        path.relative_to(_ROOT).as_posix(): path
        for path in sorted(_ROOT.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _distribution() -> metadata.Distribution:
    try:
        return metadata.distribution("stepwire")
    except metadata.PackageNotFoundError:
        raise NewEnvironmentError(
            "stepwire is not installed, so its wheel cannot be written: `pip install ./runtime` in "
            "a clone installs it, and `--from-index` writes an environment without the wheel"
        ) from None


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={digest.rstrip(b'=').decode()}"
