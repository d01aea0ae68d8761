"""Measures transformers' generate; run by the Python of a venv that has it (see rollout.py).

Reads a line of JSON a time: first shape and weights of a Llama, then prompts to be continued, and
answers each with the seconds it took.
"""

import json
import sys
import time
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM


def main() -> None:
    """Load, then continue prompts until the input ends."""
    first = json.loads(sys.stdin.readline())
    torch.set_num_threads(first["threads"])
    model = LlamaForCausalLM(LlamaConfig(**first["config"])).eval()
    model.load_state_dict(load_file(first["weights"]), strict=False)
    model.tie_weights()
    dtypes = {"fp32": model}
    print(json.dumps({"parameters": model.num_parameters()}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        if task["dtype"] not in dtypes:
            dtypes = {"bf16": model.to(torch.bfloat16)}
        print(json.dumps(measure(dtypes[task["dtype"]], task)), flush=True)


@torch.inference_mode()
def measure(model: LlamaForCausalLM, task: dict[str, Any]) -> dict[str, Any]:
    """Continue all prompts, padded before them, by `tokens` tokens each."""
    width = max(map(len, task["prompts"]))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in task["prompts"]])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in task["prompts"]])
    settings: dict[str, Any] = {"do_sample": False}
    if task["sample"]:
        settings = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(
        max_new_tokens=task["tokens"], eos_token_id=None, pad_token_id=0, **settings
    )
    torch.manual_seed(0)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    written = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    seconds = clock() - start
    return {"seconds": seconds, "ids": written[:, width:].tolist()}


if __name__ == "__main__":
    main()
