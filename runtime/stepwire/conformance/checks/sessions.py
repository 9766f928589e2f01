# SPDX-License-Identifier: BSD-3-Clause
"""Rows `WS`: sessions, their episodes and the frames of `/ws`."""

from typing import Any

from stepwire.conformance.findings import NotChecked
from stepwire.conformance.registry import check, require
from stepwire.conformance.server_under_test import ServerUnderTest
from stepwire.conformance.session_under_test import error_code, kind_of

_EPISODE = "conformance-one"
_ENOUGH = 2
_NOTHING_HAPPENED = (
    "The actions that were made from /schema changed neither the observation nor the step count. "
    "Either the environment does not count actions that it finds invalid, or it counts none: pass "
    "valid ones with --actions FILE."
)


def _require_observation(data: dict[str, Any]) -> None:
    require(isinstance(data.get("observation"), dict), "an object as `observation`", data)
    require("reward" in data, "a `reward`", data)
    require(_is_number(data["reward"]) or data["reward"] is None, "a number or null", data)
    require(isinstance(data.get("done"), bool), "a boolean as `done`", data)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@check(
    "ws-isolation",
    "WS-1",
    cause="sessions share an environment, or their environments share data",
    fix="make an environment for each connection, and keep an episode's data in `self`",
)
def sessions_share_nothing(server: ServerUnderTest) -> None:
    """A session does not change the episode and the step count of another."""
    with server.session() as one:
        one.data({"type": "reset", "data": {"episode_id": _EPISODE}}, "observation")
        one.play(_ENOUGH)
        before = one.state()
        with server.session() as other:
            reply = other.ask({"type": "reset"})
            alone = error_code(reply) == "CAPACITY_REACHED"  # the server allows one session
            if not alone:
                require(error_code(reply) is None, "a second session", reply)
                other.play(1)
        changed = one.changed_since(before)
        require(not changed, "the state of the first session to be unchanged by another", changed)
    if server.wants_reset_for_state:
        return  # nothing is left of an earlier session
    with server.session() as next_one:
        state = next_one.state()
    left = before.get("episode_id") == _EPISODE == state.get("episode_id")
    require(not left, f"another episode than {_EPISODE!r} in the next session", state)


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
    frame = {"type": "step", "data": server.action()}
    with server.session() as session:
        session.begin()
        _require_observation(session.data(frame, "observation"))


@check(
    "ws-state",
    "WS-4",
    cause="the environment's `state` is not the framework's `State`",
    fix="return `State(episode_id=…, step_count=…)`, or a subclass with more fields",
)
def state_is_answered_by_the_state(server: ServerUnderTest) -> None:
    """A `state` frame has an `episode_id` and a `step_count`."""
    with server.session() as session:
        session.begin()
        state = session.data({"type": "state"}, "state")
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
        session.begin()
        session.send({"type": "close"})
        closed = session.closing()
        require(closed.code == 1000, "close code 1000", closed)


@check(
    "ws-step-count",
    "WS-6",
    cause="`reset` does not set `step_count` to 0, or a step does not add exactly 1; or an "
    "opponent's moves are counted too",
    fix="set it to 0 in `reset`, add 1 in `step`, and change it nowhere else",
)
def steps_are_counted(server: ServerUnderTest) -> None:
    """`step_count` is 0 after each reset and then the number of steps."""
    with server.session() as session:
        for most in (2, 1):
            begun = session.begin()
            first = session.state().get("step_count")
            observed = session.play(most)
            counted = session.state().get("step_count")
            nothing_happened = all(
                each.get("observation") == begun.get("observation") for each in observed
            )
            if (first, counted) == (0, 0) and nothing_happened and not server.options.actions:
                raise NotChecked(_NOTHING_HAPPENED)
            require(
                (first, counted) == (0, len(observed)),
                f"a step count of 0 after a reset and of {len(observed)} after as many steps",
                (first, counted),
            )


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
        session.begin()
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
        session.begin()
        session.state()
        for episode_id in ids:
            session.send({"type": "reset", "data": {"episode_id": episode_id}})
            session.send({"type": "state"})
        kinds = []
        for _ in range(2 * len(ids)):
            reply = session.receive()
            kinds.append(kind_of(reply))
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
    cause="something random is not drawn from a generator that `reset` seeds; or an observation "
    "has an id or a time",
    fix="make one `random.Random(seed)` in `reset` and draw everything from it; ids and times "
    "belong in `metadata`",
)
def a_seed_fixes_the_episode(server: ServerUnderTest) -> None:
    """The same seed and the same actions give the same episode in two sessions."""
    episodes = []
    for _ in range(2):
        with server.session() as session:
            observed = [session.reset(seed=7), *session.play(2)]
        episodes.append([_without_metadata(data) for data in observed])
    for first, second in zip(*episodes, strict=False):
        differing = sorted(name for name in first | second if first.get(name) != second.get(name))
        require(
            not differing,
            f"the same {', '.join(differing)} for seed 7, "
            f"{ {name: first.get(name) for name in differing}!r:.200}",
            {name: second.get(name) for name in differing},
        )
    lengths = [len(episode) for episode in episodes]
    require(lengths[0] == lengths[1], "episodes of the same length for seed 7", lengths)


def _without_metadata(data: dict[str, Any]) -> dict[str, Any]:
    """The part that has to be equal: metadata may contain times."""
    observation = data.get("observation")
    if isinstance(observation, dict):
        observation = {key: value for key, value in observation.items() if key != "metadata"}
    fields = observation if isinstance(observation, dict) else {"observation": observation}
    return {**fields, "reward": data.get("reward"), "done": data.get("done")}


@check(
    "ws-step-first",
    "WS-11",
    cause="the environment starts an episode only in `reset`",
    fix="start an episode in the constructor too",
)
def a_step_needs_no_reset(server: ServerUnderTest) -> None:
    """The first frame of a session may be a step."""
    frame = {"type": "step", "data": server.action()}  # which is accepted after a reset
    with server.session() as session:
        reply = session.ask(frame)
        require(kind_of(reply) == "observation", "an observation of a step before a reset", reply)


@check(
    "ws-metadata",
    "WS-12",
    cause="the server drops `Observation.metadata`, like that of openenv-core 0.3.0",
    fix="send it inside `observation`, and beside it when it is not empty",
)
def metadata_reaches_the_client(server: ServerUnderTest) -> None:
    """Observations carry their metadata."""
    with server.session() as session:
        session.begin()
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
            require(
                error_code(reply) == "VALIDATION_ERROR", f"a refusal of {arguments!r:.40}", reply
            )


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
        session.begin()
        reply = session.ask({"type": "step", "data": {"type": "list_tools"}})
        require(kind_of(reply) == "observation", "an observation", reply)
        observation = (reply.get("data") or {}).get("observation") or {}
        require(isinstance(observation.get("tools"), list), "a list `tools`", reply)
