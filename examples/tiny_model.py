# SPDX-License-Identifier: BSD-3-Clause
"""Creates the model of `trl_grpo.py --tiny`, without any download.

The model has Qwen2's architecture, random weights and a tokenizer of a few hundred tokens. A few
seconds of supervised training teach it to call the tool `echo` with one to four words, and
reinforcement learning then teaches it to send longer messages.
"""

import random
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import get_json_schema

_WORDS = ["hello", "world", "echo", "again"]
_MOST_WORDS = 4
_CONVERSATIONS = 256
_STEPS = 60
_BATCH_SIZE = 16

Messages = list[dict[str, Any]]


def make_tiny_model(
    prompt: Messages, echo: Callable[..., Any]
) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """A model that answers `prompt` with a call of `echo`, and its tokenizer."""
    torch.manual_seed(0)
    chance = random.Random(0)
    conversations = [_conversation(prompt, chance) for _ in range(_CONVERSATIONS)]
    tools = [get_json_schema(echo)]
    tokenizer = _make_tokenizer(conversations, tools)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    _teach(model, tokenizer, conversations, tools, len(prompt), chance)
    return model, tokenizer


def _conversation(prompt: Messages, chance: random.Random) -> Messages:
    message = " ".join(chance.choices(_WORDS, k=chance.randint(1, _MOST_WORDS)))
    call = {"name": "echo", "arguments": {"message": message}}
    return [
        *prompt,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": call}],
        },
        {"role": "tool", "name": "echo", "content": message},
        {"role": "assistant", "content": "Done."},
    ]


def _make_tokenizer(
    conversations: list[Messages], tools: list[dict[str, Any]]
) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    arguments: Any = {
        # TRL recognises this template, and so knows how to parse tool calls.
        "chat_template": files("trl").joinpath("chat_templates/qwen2_5.jinja").read_text("utf-8"),
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    untrained = PreTrainedTokenizerFast(tokenizer_object=core, **arguments)
    core.train_from_iterator(
        (untrained.apply_chat_template(c, tools=tools, tokenize=False) for c in conversations),
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    # Each half of a call's JSON is one token, so that the model can learn calls quickly.
    core.add_tokens(
        ['<tool_call>\n{"name": "echo", "arguments": {"message": "', '"}}\n</tool_call>']
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, **arguments)


def _teach(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    conversations: list[Messages],
    tools: list[dict[str, Any]],
    prompt_length: int,
    chance: random.Random,
) -> None:
    """Train on everything after the prompt."""

    def tokens(messages: Messages, **options: Any) -> list[int]:
        return tokenizer.apply_chat_template(messages, tools=tools, return_dict=False, **options)

    prompt = tokens(conversations[0][:prompt_length], add_generation_prompt=True)
    answers = [torch.tensor(tokens(c)[len(prompt) :]) for c in conversations]
    start = torch.tensor(prompt).expand(_BATCH_SIZE, -1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=_STEPS)
    model.train()
    for _ in range(_STEPS):
        batch = chance.sample(answers, _BATCH_SIZE)
        padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-100)
        ids = torch.cat([start, padded.clamp(min=0)], dim=1)
        labels = torch.cat([torch.full_like(start, -100), padded], dim=1)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    print(f"Taught the tiny model to call the tool, loss {loss.item():.2f}")
