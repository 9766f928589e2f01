# SPDX-License-Identifier: BSD-3-Clause
"""Gymnasium: 64 sessions of one server, stepped together by an agent that says anything at all."""

import sys
import time

import gymnasium

import stepwire.integrations.gymnasium

gymnasium.register_envs(stepwire.integrations.gymnasium)  # importing it was enough

base_url = sys.argv[1] if len(sys.argv) > 1 else None  # without one, a server is started
envs = gymnasium.make_vec("openenv/Echo-v0", num_envs=64, base_url=base_url, max_episode_steps=20)
envs.action_space.seed(7)
observations, infos = envs.reset(seed=7)
started, total, episodes = time.perf_counter(), 0.0, 0
for _ in range(105):  # 5 episodes; after each but the last, one call begins the next
    observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
    total += rewards.sum()
    episodes += (terminations | truncations).sum()
envs.close()
print(f"{episodes} episodes, mean return {total / episodes:.1f}", end=", ")
print(f"{105 * 64 / (time.perf_counter() - started):.0f} steps per second")
