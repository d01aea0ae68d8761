"""Which test tries what test_docs.py cannot run; and whose programs are not ours."""

RUN = "tests/jobs/test_run.py"
SUBMIT = "tests/jobs/test_submit_ray.py"
LEFT_AND_RESUMED = (
    f"{SUBMIT}::test_a_job_left_stopped_and_resumed_takes_the_steps_of_one_undisturbed"
)
WHOLE = f"{RUN}::test_the_whole_recipe_runs_once_and_only_what_changed_runs_again"
SERVED = "tests/jobs/test_serving.py::test_it_serves_follows_a_newer_model_and_ends"
OTHERS = f"{RUN}::test_models_that_are_no_decoders_run_and_show_what_they_learned"
SWEPT = "tests/jobs/test_sweep.py::test_the_best_trial_goes_on_and_more_trials_run_nothing_twice"
CLOUDS = "tests/deploy/test_clouds.py"
REHEARSED = "tests/jobs/test_rehearse.py::test_all_falls_of_a_pretraining_hold"

TRIED_BY = {
    "run jobs/quickstart.yaml": WHOLE,
    "run jobs/corpus.yaml": f"{RUN}::test_a_messy_crawl_becomes_a_model_each_document_once",
    "run jobs/humpty.yaml": f"{RUN}::test_humpty_learns_its_verse_and_writes_past_its_context",
    "run jobs/chinese.yaml": f"{RUN}::test_chinese_has_no_unknown_token_and_no_half_character",
    "run jobs/chat.yaml": f"{RUN}::test_instructions_in_english_and_chinese_are_learned",
    "run jobs/tiny/chatgpt_en.yaml": "tests/jobs/test_tiny.py",
    "run jobs/sweep.yaml": SWEPT,
    "run jobs/scaling.yaml": "tests/jobs/test_twins.py",
    "run jobs/continue.yaml": (
        "tests/jobs/test_exchange.py::test_a_foreign_model_is_taught_and_goes_back"
    ),
    "plan jobs/continue.yaml": (
        "tests/jobs/test_exchange.py::test_the_plan_knows_a_model_before_it_is_taken_over"
    ),
    "run jobs/loop.yaml": (
        "tests/jobs/test_feedback.py::test_what_people_say_renews_only_the_stages_that_read_it"
    ),
    "run jobs/masked.yaml": OTHERS,
    "generate jobs/masked.yaml": OTHERS,
    "audit jobs/quickstart.yaml": "tests/jobs/test_audit.py::test_the_proof_is_told_in_words",
    "top runs/quickstart": (
        "tests/jobs/test_top.py::test_it_prints_once_and_plainly_where_there_is_no_terminal"
    ),
    "report runs/quickstart": "tests/jobs/test_report.py",
    "lineage jobs/quickstart.yaml:ppo": "tests/jobs/test_lineage.py",
    "serve": SERVED,
    "chat": "tests/jobs/test_talk.py::test_answers_follow_questions_and_are_remembered",
    "rehearse": REHEARSED,
    "submit": LEFT_AND_RESUMED,
    "logs": LEFT_AND_RESUMED,
    "status": LEFT_AND_RESUMED,
    "stop": LEFT_AND_RESUMED,
    "resume": LEFT_AND_RESUMED,
    "list": "tests/jobs/test_follow.py",
    "doctor --address": f"{SUBMIT}::test_a_cluster_that_is_fit_is_said_to_be",
    "make quickstart": ".ci/run",
    "make test": ".ci/run",
    "torchrun": "tests/llm/test_parallel.py::test_two_processes_take_the_steps_of_one",
    "ray job": LEFT_AND_RESUMED,
    "sbatch": f"{CLOUDS}::test_a_slurm_job_starts_ray_on_every_node_and_ends_as_its_run_does",
    "ray up": f"{CLOUDS}::test_rays_launcher_takes_the_file",
    "docker": f"{CLOUDS}::test_the_image_gets_what_it_copies_and_nothing_else",
}
"""By command, or by its first words: the test that does it at toy size."""

OUTSIDE = {
    "curl",  # what it asks is sent by Python, see `asked`
    "docker",
    "git",
    "hf",
    "kubectl",
    "pip",
    "ray",
    "sbatch",
    "serve",
    "tensorboard",
    "vllm",
}
"""Programs that are not ours, or not here."""
