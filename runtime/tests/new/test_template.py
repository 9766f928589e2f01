# SPDX-License-Identifier: BSD-3-Clause
"""Which parts of the template only its own environment has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire.new.template import MissingTemplateError, package_name, without_own_parts

_CODE = '''\
"""What it is."""

from a import b  # noqa: F401 # owner only

# Owner only: a check
# in two lines of comment.
def check() -> None:
    first()

    second()


# Owner only.
if True:
    check()


class Kept(
    Own,  # owner only
    Base,
):
    # Owner only: a field.
    own = {
        "a": 1,
    }

    # Kept by all.
    kept = "# owner only, in a text"
'''
_KEPT = '''\
"""What it is."""


class Kept(
    Base,
):

    # Kept by all.
    kept = "# owner only, in a text"
'''


def test_marked_lines_and_blocks_are_left_out_and_the_larger_gap_stays() -> None:
    assert without_own_parts(_CODE, "owner") == _KEPT


def test_a_block_at_the_end_leaves_no_gap() -> None:
    assert without_own_parts("a\n\n# Owner only.\nb\nc\n", "owner") == "a\n"


@given(st.lists(st.sampled_from(["a", "  b", "", "# other only", "    # Comment"]), min_size=1))
def test_nothing_else_is_left_out(lines: list[str]) -> None:
    text = "\n".join(lines).strip("\n") + "\n"
    assert without_own_parts(text, "owner") == text


def test_the_name_is_that_of_the_manifest() -> None:
    assert package_name("spec_version: 1\nname: maze_env\nport: 8000\n") == "maze_env"
    with pytest.raises(MissingTemplateError, match="no line `name"):
        package_name("port: 8000\n")
