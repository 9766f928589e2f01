# SPDX-License-Identifier: BSD-3-Clause
"""GRPO with TRL on the echo reward: a model learns to call a tool with longer and longer messages.

python examples/trl_grpo.py --tiny
python examples/trl_grpo.py --model Qwen/Qwen3-0.6B --env-url http://localhost:8000

Without `--env-url`, the script starts a server on this machine. It writes TRL's measurements and a
plot of the rewards to the folder `--output`.
"""

import argparse
import json
import os
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `environment_factory` is experimental

import matplotlib as mpl
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from echo_env import EchoEnv
from echo_env.models import EchoAction

PROMPT = [{"role": "user", "content": "Echo a long message."}]
GENERATIONS = 16


class EchoTools:
    """TRL creates one for each generation. Its public methods are the model's tools."""

    def __init__(self, url: str) -> None:
        self._env = EchoEnv(base_url=url)
        self.reward = 0.0

    def reset(self, **_: Any) -> None:
        self.reward = 0.0

    def echo(self, message: str) -> str:
        """
        Echo a message.

        Args:
            message: The message to echo

        Returns:
            The message as it came back.
        """
        result = self._env.step(EchoAction(message=message))
        self.reward = result.observation.reward
        return result.observation.echoed_message


class AsyncEchoTools(EchoTools):
    """The same with an `async` tool: TRL runs all calls of a model at the same time."""

    async def echo(self, message: str) -> str:
        """
        Echo a message.

        Args:
            message: The message to echo

        Returns:
            The message as it came back.
        """
        result = await self._env.step(EchoAction(message=message))
        self.reward = result.observation.reward
        return result.observation.echoed_message


def reward(environments: list[EchoTools], **_: Any) -> list[float]:
    return [environment.reward for environment in environments]


class PrintRewards(TrainerCallback):
    """Prints one line per step, in place of a dictionary of all measurements."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "reward" in logs:
            calls = logs["tools/call_frequency"]
            print(
                f"step {state.global_step:3}: reward {logs['reward']:.2f}, {calls:.1f} tool calls"
                f" per generation, {logs['step_time']:.1f} s",
                flush=True,
            )


def train(options: argparse.Namespace, url: str) -> list[dict[str, float]]:
    """Returns one entry per step, with TRL's names for its measurements."""
    model, tokenizer = options.model, None
    if options.tiny:
        from tiny_model import make_tiny_model

        torch.set_num_threads(1)  # more threads are slower for a model of this size
        model, tokenizer = make_tiny_model(PROMPT, EchoTools.echo)
    tools = AsyncEchoTools if options.use_async else EchoTools
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": [PROMPT] * GENERATIONS}),
        reward_funcs=reward,
        environment_factory=lambda: tools(url),
        args=GRPOConfig(
            output_dir=str(options.output),
            max_steps=options.steps,
            seed=options.seed,
            learning_rate=options.learning_rate,
            lr_scheduler_type="constant",
            per_device_train_batch_size=GENERATIONS,
            num_generations=GENERATIONS,
            max_completion_length=128 if options.tiny else 256,
            min_p=0.05,  # exclude unlikely tokens: one wrong token spoils a tool call
            bf16=torch.cuda.is_available(),
            use_cpu=options.tiny,
            logging_steps=1,
            disable_tqdm=True,
            save_strategy="no",
            report_to="none",
        ),
        callbacks=[PrintRewards()],
    )
    trainer.remove_callback(PrinterCallback)
    weights = trainer.model.get_input_embeddings().weight
    before = weights.detach().clone()
    trainer.train()
    print(f"Embeddings moved by up to {(weights - before).abs().max():.2g}")
    return [entry for entry in trainer.state.log_history if "reward" in entry]


def plot(rewards: list[float], file: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mean = [sum(rewards[max(0, i - 9) : i + 1]) / min(10, i + 1) for i in range(len(rewards))]
    plt.figure(figsize=(7, 4))
    plt.plot(range(1, len(rewards) + 1), rewards, "o-", alpha=0.4, label="each step")
    plt.plot(range(1, len(rewards) + 1), mean, linewidth=2, label="mean of the last ten")
    plt.xlabel("step")
    plt.ylabel("reward, mean over generations")
    plt.title("GRPO on echo_env")
    plt.grid(alpha=0.3)
    plt.legend()
    plt.tight_layout()
    plt.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env-url", help="address of a server (default: start one)")
    parser.add_argument("--model", default="Qwen/Qwen3-0.6B", help="from the Hub, or a folder")
    parser.add_argument("--tiny", action="store_true", help="create a model: offline, on a CPU")
    parser.add_argument("--use-async", action="store_true", help="use an `async` tool")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, help="default: 5e-4 if tiny, else 1e-6")
    parser.add_argument("--output", type=Path, default=Path("trl_grpo"))
    options = parser.parse_args()
    if options.learning_rate is None:
        options.learning_rate = 5e-4 if options.tiny else 1e-6

    warnings.simplefilter("ignore", FutureWarning)  # transformers deprecates options that TRL sets
    server = None if options.env_url else EchoEnv.from_local()
    try:
        log = train(options, options.env_url or server.base_url)
    finally:
        if server is not None:
            server.close()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "log.json").write_text(json.dumps(log, indent=1))
    rewards = [step["reward"] for step in log]
    plot(rewards, options.output / "rewards.png")
    first, last = rewards[:10], rewards[-10:]
    print(f"Mean reward: {sum(first) / len(first):.2f} in the first {len(first)} steps", end=", ")
    print(f"{sum(last) / len(last):.2f} in the last {len(last)}")
    print(f"Tool calls that failed: {max(step['tools/failure_frequency'] for step in log):.0%}")
    print(f"See {options.output / 'rewards.png'}")


if __name__ == "__main__":
    main()
