"""Measures vLLM; run by the Python of a venv that has it (see decode.py).

Reads a line of JSON a time: first the folder of a Llama, then prompts with the number of tokens
that each is to be continued by, and answers with the seconds that it took and when first tokens
came.
"""

import json
import os
import sys
import time
from typing import Any

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # or its clock would not see the work
    "VLLM_CPU_KVCACHE_SPACE": "4",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


def main() -> None:
    """Load, then continue prompts until the input ends."""
    first = json.loads(sys.stdin.readline())
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "0" if first["threads"] == 1 else "all"
    from vllm import LLM

    llm = LLM(
        model=first["folder"],
        skip_tokenizer_init=True,
        dtype=first["dtype"],
        max_model_len=first["context"],
        max_num_seqs=64,
        enable_prefix_caching=False,
        disable_log_stats=True,
        enforce_eager=first["eager"],
    )
    measure(llm, {"prompts": [[5] * 40] * 4, "counts": [8] * 4}, first["threads"])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(llm, json.loads(line), first["threads"])), flush=True)


def measure(llm: Any, task: dict[str, Any], threads: int) -> dict[str, Any]:
    """Continue all prompts, each by its number of tokens."""
    from vllm import SamplingParams

    clock = time.process_time if threads == 1 else time.perf_counter
    engine = llm.llm_engine
    start, firsts, tokens = clock(), {}, {}
    for at, (prompt, count) in enumerate(zip(task["prompts"], task["counts"], strict=True)):
        manner = SamplingParams(
            temperature=task.get("temperature", 1.0),
            max_tokens=count,
            ignore_eos=True,
            detokenize=False,
            seed=None,
        )
        engine.add_request(str(at), {"prompt_token_ids": prompt}, manner)
    while engine.has_unfinished_requests():
        for output in engine.step():
            firsts.setdefault(output.request_id, clock() - start)
            tokens[output.request_id] = list(output.outputs[0].token_ids)
    seconds = clock() - start
    ids = [tokens[str(at)] for at in range(len(task["prompts"]))]
    return {"seconds": seconds, "firsts": sorted(firsts.values()), "ids": ids}


if __name__ == "__main__":
    main()
