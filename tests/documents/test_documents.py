# SPDX-License-Identifier: BSD-3-Clause
"""Every document has a test module, code that can be pasted, and links that lead somewhere."""

import ast
import codeop
import re

import pytest

from document import ROOT, Document

_FILES = {
    "README.md": "test_readme.py",
    "CONTRIBUTING.md": "test_contributing.py",
    "CHANGELOG.md": "test_documents.py",
    "docs/author.md": "test_author.py",
    "docs/capacity.md": "test_capacity.py",
    "docs/client.md": "test_client.py",
    "docs/coming-from-stock.md": "test_coming_from_stock.py",
    "docs/compatibility.md": "test_documents.py",
    "docs/conformance.md": "test_conformance.py",
    "docs/environment.md": "test_environment.py",
    "docs/inspector.md": "test_documents.py",
    "docs/limits.md": "test_documents.py",
    "docs/observing.md": "test_observing.py",
    "docs/operating.md": "test_operating.py",
    "docs/performance.md": "test_performance.py",
    "docs/protocol.md": "test_protocol.py",
    "docs/ray.md": "test_ray.py",
    "docs/scenarios.md": "test_scenarios.py",
    "docs/upstream.md": "test_documents.py",
    "examples/README.md": "test_examples.py",
    "runtime/README.md": "test_documents.py",
}
_CONTRACT = "runtime/stepwire/conformance/CONTRACT.md"  # its rows are the kit's tests
_ALL = {path: Document(path) for path in [*_FILES, _CONTRACT]}
_PYTHON = {
    f"{path}: {name}": block.code
    for path, page in _ALL.items()
    for name, block in page.blocks.items()
    if block.language == "python"
}


def test_every_document_has_a_test_module() -> None:
    patterns = ("*.md", "[!.]*/*.md", "runtime/stepwire/**/*.md")
    found = {file.relative_to(ROOT).as_posix() for glob in patterns for file in ROOT.glob(glob)}
    assert found == set(_ALL)


@pytest.mark.parametrize("path", _FILES)
def test_its_module_runs_all_of_its_blocks(path: str) -> None:
    module = _FILES[path]
    if module == "test_documents.py":
        assert not _ALL[path].blocks
    else:
        code = (ROOT / "tests" / "documents" / module).read_text("utf-8")
        assert f'Document("{path}")' in code
        assert ".test_the_other_blocks(" in code


@pytest.mark.parametrize("path", _FILES)
def test_every_fence_is_that_of_a_block_with_a_language(path: str) -> None:
    page = _ALL[path]
    blocks = sum(1 + (block.prints is not None) for block in page.blocks.values())
    assert len(re.findall(r"^\s*(?:```|~~~)", page.text, re.MULTILINE)) == 2 * blocks


def test_the_readme_is_short() -> None:
    assert len(_ALL["README.md"].text.splitlines()) <= 150


@pytest.mark.parametrize("path", _ALL)
def test_every_link_leads_somewhere(path: str) -> None:
    page = _ALL[path]
    prose = re.sub(r"^```.*?^```$", "", page.text, flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", prose):
        target, _, anchor = "".join(link).partition("#")
        if target.startswith(("http://", "https://")):
            continue
        file = (ROOT / path).parent / target if target else ROOT / path
        assert file.exists(), f"{path} links to {target}"
        if anchor:
            assert anchor in _anchors(file.read_text("utf-8")), f"{path} links to {target}#{anchor}"


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", _PYTHON)
def test_python_can_be_pasted_into_a_prompt(name: str) -> None:
    """There an empty line ends what is indented, and nothing else does; the last one is typed."""
    code = _PYTHON[name]
    if (
        name.startswith(("docs/author.md", "docs/environment.md"))
        or "EnvironmentConformance" in code
    ):
        compile(code, name, "exec")  # a file, not for a prompt
        return
    assert "\n\n " not in code
    complete = codeop.CommandCompiler()
    complete.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as in a notebook
    statement: list[str] = []
    for line in [*code.splitlines(), ""]:
        statement.append(line)
        if complete("\n".join(statement), symbol="single") is not None:
            statement.clear()
    assert not statement


def test_pictures_are_small() -> None:
    pictures = re.findall(r'<img src="([^"]+)"', _ALL["docs/inspector.md"].text)
    assert pictures == ["web.png", "web-phone.png"]
    for picture in pictures:
        assert (ROOT / "docs" / picture).stat().st_size < 64_000
