"""Measures a task with lm-eval and transformers, under their own Python; prints seconds, figures.

python _lm_eval.py EXPORTED_MODEL TASK BATCH      (TASK.yaml lies in the current folder)
"""

import json
import sys
import time

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

folder, task, batch = sys.argv[1:]
model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=int(batch))
tasks = TaskManager(include_path=".", include_defaults=False)
began = time.perf_counter()
found = lm_eval.simple_evaluate(model=model, tasks=[task], task_manager=tasks, bootstrap_iters=0)
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "figures": found["results"][task]}))
