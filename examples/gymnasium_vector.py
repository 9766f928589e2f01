# SPDX-License-Identifier: BSD-3-Clause
"""Gymnasium: 64 sessions of one server, stepped together by an agent that sends random text."""

import sys
import time

import gymnasium

from echo_env import EchoEnv
from stepwire.integrations.gymnasium import register

register("openenv/Echo-v0", EchoEnv, max_episode_steps=20)

base_url = sys.argv[1] if len(sys.argv) > 1 else None  # without one, this starts a server
envs = gymnasium.make_vec("openenv/Echo-v0", num_envs=64, base_url=base_url)
envs.action_space.seed(7)
observations, infos = envs.reset(seed=7)
started, total, episodes = time.perf_counter(), 0.0, 0
for _ in range(105):  # 5 episodes of 20 steps, and one call each for their automatic resets
    observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
    total += rewards.sum()
    episodes += (terminations | truncations).sum()
envs.close()
print(f"{episodes} episodes, mean return {total / episodes:.1f}", end=", ")
print(f"{105 * 64 / (time.perf_counter() - started):.0f} steps per second")
