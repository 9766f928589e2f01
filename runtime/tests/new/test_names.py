# SPDX-License-Identifier: BSD-3-Clause
"""The name of an environment: its forms, and those that are refused with another one."""

import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stepwire.new.names import LONGEST_NAME, Names, NewEnvironmentError, check_name


def test_the_forms_of_a_name() -> None:
    names = Names("guess_number")
    assert (names.dashed, names.pascal, names.words, names.title) == (
        "guess-number",
        "GuessNumber",
        "guess number",
        "Guess Number",
    )


def test_the_ending_env_is_no_part_of_class_names_and_titles() -> None:
    names = Names("big_maze_env")
    assert (names.short, names.pascal, names.title) == ("big_maze", "BigMaze", "Big Maze")
    assert names.dashed == "big-maze-env"


@given(st.from_regex(r"[a-z]{1,9}(_[a-z0-9]{1,9})?", fullmatch=True))
def test_a_space_gets_an_emoji_and_two_colors_that_the_hub_knows(name: str) -> None:
    names = Names(name)
    known = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert len(set(names.colors)) == 2
    assert set(names.colors) < known
    assert len(names.emoji) == 1
    assert names.emoji > "⌀"
    assert (names.emoji, names.colors) == (Names(name).emoji, Names(name).colors)


@pytest.mark.parametrize(
    ("name", "problem", "other"),
    [
        ("", "is empty", "my_env"),
        ("class", "keyword", "class_env"),
        ("random", "standard library", "random_env"),
        ("my-env", "not snake_case", "my_env"),
        ("GuessNumber", "not snake_case", "guess_number"),
        ("2048", "not snake_case", "game_2048"),
        ("a__b", "not snake_case", "a_b"),
        ("a_", "not snake_case", "a"),
        ("größe", "not snake_case", "gr_e"),
        ("x\n", "not snake_case", "x"),
        ("pydantic", "installed package", "pydantic_env"),
        ("stepwire", "each environment has or needs", "stepwire_env"),
        ("server", "each environment has or needs", "server_env"),
        ("tests", "pytest would take its classes for tests", "my_tests"),
        ("wheels", "each environment has or needs", "wheels_env"),
        ("openenv", "leaves out of names", "my_env"),
        ("openenv_maze", "leaves out of names", "maze"),
        ("big_envelope", "leaves out of names", "big_elope"),
        ("a" * 51, "has 51 characters, and at most 50", "a" * 41),
    ],
)
def test_a_bad_name_is_refused_with_another_one(name: str, problem: str, other: str) -> None:
    with pytest.raises(NewEnvironmentError, match=problem) as caught:
        check_name(name, Path(name))
    assert str(caught.value).endswith(f"Choose another name, such as {other!r}")


@pytest.mark.parametrize("name", ["echo", "guess_number", "maze_env", "tic_tac_toe", "g2", "env"])
def test_good_names_are_accepted(name: str) -> None:
    check_name(name, Path(name))


@given(st.text(max_size=80))
@example("class_env")
@example("__class__")
@example("_env")
@example("A" * 49 + "B")
@example("my_env_env_env")
def test_whatever_the_name_the_other_one_is_accepted(name: str) -> None:
    complaint = ""
    try:
        check_name(name, Path("nowhere"))
    except NewEnvironmentError as error:
        complaint = str(error)
        name = complaint.split("such as ")[1].strip("'")
        check_name(name, Path("nowhere"))
    assert name.isidentifier(), complaint
    assert len(name) <= LONGEST_NAME
    assert name not in sys.stdlib_module_names


def test_a_folder_of_that_name_is_no_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "maze").mkdir()
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    check_name("maze", tmp_path / "maze")
    check_name("tower", tmp_path / "tower")  # the very folder: it is refused for what it holds
    with pytest.raises(NewEnvironmentError, match="installed package"):
        check_name("tower", tmp_path / "elsewhere" / "tower")
    monkeypatch.chdir(tmp_path)
    check_name("tower", tmp_path / "elsewhere" / "tower")  # found because of where Python runs
