# SPDX-License-Identifier: BSD-3-Clause
"""Rows `WS`: sessions, their episodes and the frames of `/ws`."""

from typing import Any

from stepwire.conformance.registry import check, require
from stepwire.conformance.server_under_test import ServerUnderTest


def _require_observation(data: dict[str, Any]) -> None:
    require(isinstance(data.get("observation"), dict), "an object as `observation`", data)
    require("reward" in data, "a `reward`", data)
    require(_is_number(data["reward"]) or data["reward"] is None, "a number or null", data)
    require(isinstance(data.get("done"), bool), "a boolean as `done`", data)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _code(reply: Any) -> Any:
    data = reply.get("data") if isinstance(reply, dict) else None
    return data.get("code") if isinstance(data, dict) else None


@check(
    "ws-isolation",
    "WS-1",
    cause="sessions share an environment, or their environments share data",
    fix="make an environment for each connection, and keep an episode's data in `self`",
)
def sessions_share_nothing(server: ServerUnderTest) -> None:
    """A session does not change the episode and the step count of another."""
    with server.session() as one:
        one.reset(episode_id="conformance-one")
        one.play(2)
        before = one.state()
        with server.session() as other:
            reply = other.ask({"type": "reset"})
            alone = _code(reply) == "CAPACITY_REACHED"  # the server holds one session
            require(alone or _code(reply) is None, "a second session", reply)
            if not alone:
                other.play(1)
        after = one.state()
        require(
            after == before, f"the unchanged state of the first session, {before!r:.200}", after
        )
    with server.session() as next_one:
        count = next_one.state().get("step_count")
        require(count == 0, "a step count of 0 in the next session", count)


@check(
    "ws-reset",
    "WS-2",
    cause="the observation is sent alone, without `reward` and `done` beside it",
    fix='answer `{"type":"observation","data":{"observation":{…},"reward":…,"done":…}}`',
)
def reset_is_answered_by_an_observation(server: ServerUnderTest) -> None:
    """`reset` is answered without `data`, with empty `data` and with further keys."""
    for frame in (
        {"type": "reset"},
        {"type": "reset", "data": {}},
        {"type": "reset", "data": {"seed": 0, "conformance": {"of": ["any", None]}}},
    ):
        with server.session() as session:
            _require_observation(session.data(frame, "observation"))


@check(
    "ws-step",
    "WS-3",
    cause="the observation is sent alone, without `reward` and `done` beside it",
    fix='answer `{"type":"observation","data":{"observation":{…},"reward":…,"done":…}}`',
)
def a_step_is_answered_by_an_observation(server: ServerUnderTest) -> None:
    """`step` with a valid action is answered by an observation frame."""
    with server.session() as session:
        session.reset()
        _require_observation(session.take_step())


@check(
    "ws-state",
    "WS-4",
    cause="the environment's `state` is not the framework's `State`",
    fix="return `State(episode_id=…, step_count=…)`, or a subclass with more fields",
)
def state_is_answered_by_the_state(server: ServerUnderTest) -> None:
    """A `state` frame has an `episode_id` and a `step_count`."""
    with server.session() as session:
        session.reset()
        state = session.state()
        require("episode_id" in state, "an `episode_id`", state)
        require(isinstance(state["episode_id"], str | None), "a string or null", state)
        count = state.get("step_count")
        require(type(count) is int and count >= 0, "an integer as `step_count`", state)


@check(
    "ws-close",
    "WS-5",
    cause="`close` is answered like any other message",
    fix="close the connection with code 1000, without a frame",
)
def close_is_answered_by_closing(server: ServerUnderTest) -> None:
    """`close` ends the connection with code 1000 and without a further frame."""
    with server.session() as session:
        session.reset()
        session.send({"type": "close"})
        closed = session.closing()
        require(closed.code == 1000, "close code 1000", closed)


@check(
    "ws-step-count",
    "WS-6",
    cause="`reset` does not set `step_count` to 0, or a step does not add exactly 1",
    fix="set it to 0 in `reset`, add 1 in `step`, and change it nowhere else",
)
def steps_are_counted(server: ServerUnderTest) -> None:
    """`step_count` is 0 after each reset and then the number of steps."""
    with server.session() as session:
        for most in (2, 1):
            session.reset()
            require(session.state().get("step_count") == 0, "0 after a reset", session.state())
            taken = len(session.play(most))
            state = session.state()
            require(state.get("step_count") == taken, f"{taken} after {taken} steps", state)


@check(
    "ws-episode-id",
    "WS-7",
    cause="`reset` ignores its `episode_id`, or keeps that of the previous episode",
    fix="set `state.episode_id` in `reset`: to the given id, or to a new one",
)
def an_episode_has_the_requested_id(server: ServerUnderTest) -> None:
    """The episode has the id that `reset` was given, or a new id."""
    with server.session() as session:
        session.reset(episode_id="conformance")
        state = session.state()
        require(state.get("episode_id") == "conformance", "the id 'conformance'", state)
        session.reset()
        state = session.state()
        require(state.get("episode_id") != "conformance", "another id", state)


@check(
    "ws-order",
    "WS-8",
    cause="messages of one connection are handled concurrently",
    fix="handle the messages of a connection one after the other",
)
def frames_are_answered_in_order(server: ServerUnderTest) -> None:
    """Frames sent without waiting are answered one by one, in order."""
    ids = [f"conformance-{number}" for number in range(8)]
    with server.session() as session:
        for episode_id in ids:
            session.send({"type": "reset", "data": {"episode_id": episode_id}})
            session.send({"type": "state"})
        kinds = []
        for _ in range(2 * len(ids)):
            reply = session.receive()
            kinds.append(reply.get("type") if isinstance(reply, dict) else reply)
        require(kinds == ["observation", "state"] * len(ids), "replies in order", kinds)


@check(
    "ws-path",
    "WS-9",
    cause="the server accepts WebSockets on every path",
    fix="serve sessions only at `/ws`",
)
def another_path_is_refused(server: ServerUnderTest) -> None:
    """The handshake for an unknown path is refused with 403."""
    status = server.handshake_status("/conformance-no-such-path")
    require(status == 403, "the handshake to be refused with 403", status)


@check(
    "ws-seed",
    "WS-10",
    cause="something random is not drawn from a generator that `reset` seeds",
    fix="make one `random.Random(seed)` in `reset` and draw everything from it",
)
def a_seed_fixes_the_episode(server: ServerUnderTest) -> None:
    """The same seed and the same actions give the same episode in two sessions."""
    episodes = []
    for _ in range(2):
        with server.session() as session:
            observed = [session.reset(seed=7), *session.play(2)]
        episodes.append([_without_metadata(data) for data in observed])
    first, second = episodes
    require(first == second, f"the same episode for seed 7, {first!r:.200}", second)


def _without_metadata(data: dict[str, Any]) -> dict[str, Any]:
    """The part that has to be equal: metadata may contain times."""
    observation = data.get("observation")
    if isinstance(observation, dict):
        observation = {key: value for key, value in observation.items() if key != "metadata"}
    return {"observation": observation, "reward": data.get("reward"), "done": data.get("done")}


@check(
    "ws-step-first",
    "WS-11",
    cause="the environment starts an episode only in `reset`",
    fix="start an episode in the constructor too",
)
def a_step_needs_no_reset(server: ServerUnderTest) -> None:
    """The first frame of a session may be a step."""
    with server.session() as session:
        session.take_step()


@check(
    "ws-metadata",
    "WS-12",
    cause="the server drops `Observation.metadata`, like that of openenv-core 0.3.0",
    fix="send it inside `observation`, and beside it when it is not empty",
)
def metadata_reaches_the_client(server: ServerUnderTest) -> None:
    """Observations carry their metadata."""
    with server.session() as session:
        session.reset()
        data = session.take_step()
        observation = data.get("observation") or {}
        metadata = observation.get("metadata")
        require(isinstance(metadata, dict), "an object as `observation.metadata`", data)
        beside = data.get("metadata") or {}
        require(beside == metadata, f"{metadata} also beside the observation", beside)


@check(
    "ws-reset-arguments",
    "WS-13",
    cause="the server passes `data` of `reset` to the environment without validation",
    fix="validate it with the framework's `ResetRequest`, as for `POST /reset`",
)
def arguments_of_reset_are_checked(server: ServerUnderTest) -> None:
    """A bad `seed` or `episode_id` is refused over `/ws`, like over HTTP."""
    for arguments in ({"seed": -1}, {"seed": "x"}, {"episode_id": 5}, {"episode_id": "x" * 256}):
        with server.session() as session:
            reply = session.ask({"type": "reset", "data": arguments})
            require(_code(reply) == "VALIDATION_ERROR", f"a refusal of {arguments!r:.40}", reply)


@check(
    "ws-state-seed",
    "WS-14",
    cause="the environment does not keep its seed",
    fix="keep it in `reset`, and return `State(…, seed=…)` if there is one",
)
def the_state_has_the_seed(server: ServerUnderTest) -> None:
    """`state` has the `seed` of its episode."""
    with server.session() as session:
        session.reset(seed=7)
        state = session.state()
        require(state.get("seed") == 7, "the seed 7", state)


@check(
    "ws-tool-actions",
    "WS-15",
    cause="the server accepts only the environment's own action",
    fix="accept the framework's `ListToolsAction` and `CallToolAction` too",
)
def tools_are_listed_by_an_action(server: ServerUnderTest) -> None:
    """`list_tools` as an action is answered by an observation with `tools`."""
    with server.session() as session:
        session.reset()
        data = session.data({"type": "step", "data": {"type": "list_tools"}}, "observation")
        observation = data.get("observation") or {}
        require(isinstance(observation.get("tools"), list), "a list `tools`", data)
