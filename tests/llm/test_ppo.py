"""The step of PPO: what it sees, that cutting it up changes nothing, that it finds an optimum."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llm.align_config import KlConfig
from llm.experience import Experience, Texts, describe, in_slots, laid_out, texts_of
from llm.outside import Outside
from llm.ppo import Rates, Updates, appraised, together
from llm.ppo_run import PpoRun
from llm.ppo_task import read_ppo_task
from llm.pretrain_mix import PretrainMix
from llm.roles import answer_logprobs
from llm.world import CPU, World
from tests.ppo_tasks import LETTERS, ROOM, run_ppo, steps_of, write_ppo_task
from tests.tasks import write_task

ALONE = World(0, 1, CPU)


def texts() -> Texts:
    """Prompts of 2 and 1 tokens with answers of 1 and 3."""
    return texts_of([[5, 6], [7]], [[1], [2, 3, 4]])


def test_positions_that_predict_an_answer_begin_with_the_prompts_last() -> None:
    assert texts().ids.tolist() == [[5, 6, 1, 0], [7, 2, 3, 4]]
    assert texts().predicting.tolist() == [[False, True, False], [True, True, True]]
    assert texts().targets.tolist() == [1, 2, 3, 4]
    assert texts().mask(4).tolist() == [[True, False, False, False], [True, True, True, False]]


def test_numbers_come_back_to_the_tokens_they_belong_to() -> None:
    flat = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert laid_out(flat, texts().mask(3)).tolist() == [[1, 0, 0], [2, 3, 4]]
    assert laid_out(torch.stack((flat, -flat), 1), texts().mask(3))[1, 2].tolist() == [4, -4]


def test_chosen_texts_are_padded_to_the_next_multiple_of_16_at_most() -> None:
    chosen = texts()[torch.tensor([0])]
    assert chosen.ids.tolist() == [texts().ids[0].tolist()]
    assert chosen.answers() == [[1]]
    long = Texts(
        torch.zeros(2, 70, dtype=torch.int64), torch.tensor([1, 1]), torch.tensor([70, 17])
    )
    assert long[torch.tensor([1])].ids.shape == (1, 32)
    assert long[torch.tensor([0, 1])].ids.shape == (2, 70)


def test_micro_batches_hold_texts_of_about_the_same_length() -> None:
    slots = in_slots(torch.tensor([9, 2, 8, 3, 5]), 2)
    assert [slot.tolist() for slot in slots] == [[1, 3], [4, 2], [0]]


def made(folder: Path, **config: Any) -> PpoRun:
    """A run of a fresh task that has not begun."""
    path = write_ppo_task(folder, **config)
    (folder / "run").mkdir()
    return PpoRun(replace(read_ppo_task(path), folder=str(folder / "run")), Outside())


def explored(run: PpoRun, step: int = 0) -> Experience:
    prompts, keys = run._drawn(step)
    return run.ppo.explore(prompts, keys, 0.05)


def learned(run: PpoRun, experience: Experience, step: int = 0) -> Updates:
    updates = run.ppo.learn(step, experience, Rates(1e-3, 1e-3), lambda _: True)
    assert updates is not None
    return updates


def weights(run: PpoRun) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in run.models.named_parameters()}


def test_the_trainer_reads_the_probabilities_that_answers_were_drawn_with(tmp_path: Path) -> None:
    experience = explored(made(tmp_path, even=False))
    assert describe(experience, 0.0)["mismatch"] < 1e-5
    torch.testing.assert_close(
        experience.written[experience.mask],
        experience.logprobs[experience.mask],
        atol=1e-5,
        rtol=0,
    )


def test_an_even_policy_has_the_entropy_of_its_alphabet_and_no_divergence(tmp_path: Path) -> None:
    figures = describe(explored(made(tmp_path)), 0.05)
    assert figures["entropy"] == pytest.approx(math.log(len(LETTERS) + 1), abs=1e-5)
    assert figures["kl"] == pytest.approx(0, abs=1e-5)
    assert figures["score"] == pytest.approx(figures["reward"], abs=1e-5)


def test_temperature_sharpens_writing_and_reading_alike(tmp_path: Path) -> None:
    experience = explored(made(tmp_path, even=False, temperature=0.5))
    assert describe(experience, 0.0)["mismatch"] < 1e-5


def test_rewards_are_advantages_and_returns_as_worked_by_hand() -> None:
    # Two answers of one and two tokens; gamma = lambda = 1, so returns add up what follows.
    pair = texts_of([[1], [1]], [[2], [3, 4]])
    table = torch.zeros(2, 2, 4)
    table[..., 0] = torch.tensor([[-1.0, 0.0], [-1.0, -2.0]])  # the policy's log-probabilities
    table[..., 3] = torch.tensor([[-1.5, 0.0], [-1.0, -3.0]])  # the reference's
    table[..., 2] = torch.tensor([[0.25, 9.0], [0.5, 1.0]])  # values; 9 lies behind the end
    config = read_config(gamma=1.0, gae=1.0, truncated=-1.0)
    ended, rewards = torch.tensor([True, False]), torch.tensor([2.0, 5.0])
    experience = appraised(pair, ended, rewards, table[..., 0], table, 0.1, config)
    # Token rewards: 2 - 0.1 x 0.5 = 1.95; and 0, then -1 (truncated) - 0.1 x 1 = -1.1.
    assert experience.rewards.tolist() == [2.0, -1.0]
    torch.testing.assert_close(
        experience.returns[experience.mask], torch.tensor([1.95, -1.1, -1.1])
    )
    # Advantages 1.7, -1.6, -2.1: mean -0.6667, unbiased deviation 2.0648.
    torch.testing.assert_close(
        experience.advantages[experience.mask],
        torch.tensor([1.14618, -0.45201, -0.69417]),
        atol=1e-4,
        rtol=0,
    )
    assert experience.kl.tolist() == pytest.approx([0.5, 1.0])


def read_config(**changes: Any) -> Any:
    """A config with nothing in it but what `appraised` looks at."""
    from llm.align_config import ChatDataConfig, PpoConfig

    return PpoConfig(data=(ChatDataConfig(shards=("unused",)),), **changes)


def test_before_the_first_update_every_ratio_is_one(tmp_path: Path) -> None:
    run = made(tmp_path, even=False)
    updates = learned(run, explored(run))
    assert updates.ratio < 1e-6


def test_a_step_that_may_not_learn_changes_nothing(tmp_path: Path) -> None:
    run = made(tmp_path)
    before, ratios = weights(run), []

    def refuse(ratio: float) -> bool:
        ratios.append(ratio)
        return False

    assert run.ppo.learn(0, explored(run), Rates(1e-3, 1e-3), refuse) is None
    assert len(ratios) == 1
    assert all(torch.equal(before[name], now) for name, now in weights(run).items())
    assert all(p.grad is None for p in run.models.parameters())


def test_only_the_critic_learns_while_it_warms_up(tmp_path: Path) -> None:
    run = made(tmp_path, critic_warmup=1)
    before = weights(run)
    learned(run, explored(run))
    changed = {name for name, now in weights(run).items() if not torch.equal(before[name], now)}
    assert changed and all(name.startswith("critic.") for name in changed)
    learned(run, explored(run, 1), step=1)
    assert any(not torch.equal(before[n], p) for n, p in weights(run).items() if "policy" in n)


def test_micro_batches_do_not_change_a_step(tmp_path: Path) -> None:
    runs = [made(tmp_path / str(size), micro_batch=size, even=False) for size in (1, 4, 16)]
    first, *others = [(explored(run), run) for run in runs]
    wanted = learned(first[1], first[0])
    for experience, run in others:
        torch.testing.assert_close(experience.advantages, first[0].advantages, atol=1e-5, rtol=1e-5)
        updates = learned(run, experience)
        assert vars(updates) == pytest.approx(vars(wanted), abs=1e-5)
        for name, parameter in weights(run).items():
            torch.testing.assert_close(parameter, weights(first[1])[name], atol=1e-5, rtol=1e-5)


def test_an_entropy_bonus_keeps_the_policy_more_open(tmp_path: Path) -> None:
    entropies = []
    for bonus in (0.0, 0.5):
        task = write_ppo_task(tmp_path / str(bonus), steps=8, entropy=bonus)
        run_ppo(task, tmp_path / str(bonus) / "run")
        entropies.append(steps_of(tmp_path / str(bonus) / "run")[-1]["entropy"])
    assert entropies[1] > entropies[0] + 0.02


def test_the_critic_starts_as_the_reward_model_in_normalised_units(tmp_path: Path) -> None:
    run = made(tmp_path, model_judges=True, reward_clip=100.0)
    prompts, keys = run._drawn(0)
    experience = run.ppo.explore(prompts, keys, 0.0)
    whole = experience.texts
    with torch.no_grad():
        values = run.models.critic.rewards(whole.ids, whole.length)
    wanted = torch.cat(run.ppo.roles.rewards([whole], [prompts])())
    torch.testing.assert_close(values, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(experience.rewards, wanted, atol=1e-5, rtol=1e-5)


def test_rewards_of_a_model_are_clipped(tmp_path: Path) -> None:
    experience = explored(made(tmp_path, model_judges=True, reward_clip=0.01))
    assert float(experience.rewards.abs().max()) == pytest.approx(0.01)


def test_mixed_in_text_adds_its_weighted_mean_loss(tmp_path: Path) -> None:
    run = made(tmp_path / "ppo", even=False)
    text = write_task(tmp_path / "text", documents=60)
    task = text.read_text().replace(
        str(tmp_path / "text" / "tokenizer.model"), str(tmp_path / "ppo" / "tokenizer.model")
    )
    text.write_text(task)
    context = run.models.policy.config.context
    mix = PretrainMix(text, tmp_path / "ppo" / "policy", context, 2, run.on)
    rows = next(mix.rows.blocks(mix.cursor, 6))
    mix.backward(run.models.policy, 0.5, 6)
    mixed = [p.grad.clone() for p in run.models.policy.parameters()]
    run.models.policy.zero_grad()
    ids = torch.from_numpy(rows.ids.astype("int64"))
    loss = run.models.policy(ids[:, :-1].clamp(min=0), ids[:, 1:])
    (0.5 * loss / (ids[:, 1:] >= 0).sum()).backward()
    for grad, parameter in zip(mixed, run.models.policy.parameters(), strict=True):
        torch.testing.assert_close(grad, parameter.grad, atol=1e-6, rtol=1e-5)
    assert mix.cursor == rows.after


def test_rows_of_processes_are_put_in_their_places() -> None:
    rows, parts = [torch.tensor([2, 0])], [torch.tensor([[1.0], [2.0]])]
    assert together(rows, parts, torch.zeros(3, 1), ALONE).tolist() == [[2.0], [0.0], [1.0]]


def test_log_probabilities_of_a_part_are_those_of_the_whole(tmp_path: Path) -> None:
    run = made(tmp_path, even=False)
    experience = explored(run)
    part = experience.texts[torch.tensor([3, 7])]
    with torch.no_grad():
        flat = answer_logprobs(run.models.policy, part, run.ppo.manner)
    wanted = experience.logprobs[[3, 7]][experience.mask[[3, 7]]]
    torch.testing.assert_close(flat, wanted, atol=1e-5, rtol=1e-5)


# -- a task whose optimum is known -----------------------------------------------------------------

TARGET = 6.0


def tilted(pull: float, room: int = ROOM) -> tuple[float, float, float]:
    """Reward, divergence and Z of the policy p(answer) exp(pull x number of a) / Z.

    No other policy has more reward at its divergence. p takes all letters and the end for equally
    likely, so Z needs one recursion over the places that are left: Z_0 = 1 and
    Z_t = (1 + (7 + exp(pull)) Z_{t-1}) / 9. The mean number of a is d log Z / d pull.
    """
    kinds, z, slope = len(LETTERS) + 1, 1.0, 0.0
    for _ in range(room):
        going, steeper = (kinds - 2 + math.exp(pull)) / kinds, math.exp(pull) / kinds
        z, slope = 1 / kinds + going * z, steeper * z + going * slope
    number = slope / z
    return number / room, pull * number - math.log(z), z


def best_reward(nats: float) -> float:
    """The largest mean reward that a policy can have at that divergence."""
    low, high = 0.0, 30.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if tilted(middle)[1] < nats else (low, middle)
    return tilted(low)[0]


def test_the_optimum_is_that_of_all_answers_weighed_one_by_one() -> None:
    # Two places: the end; or seven other letters, or a, each before end, other letter or a.
    pull = 1.5
    answers = [(1 / 9, 0)]
    for first, count in ((7 / 9, 0), (1 / 9, 1)):
        answers += [(first / 9, count), (first * 7 / 9, count), (first / 9, count + 1)]
    assert sum(p for p, _ in answers) == pytest.approx(1)
    weighed = [(p * math.exp(pull * count), count) for p, count in answers]
    z = sum(weight for weight, _ in weighed)
    reward = sum(weight / z * count for weight, count in weighed) / 2
    nats = sum(w / z * math.log(w / z / p) for (w, _), (p, _) in zip(weighed, answers, strict=True))
    assert tilted(pull, room=2) == pytest.approx((reward, nats, z))
    assert best_reward(TARGET) == pytest.approx(0.6072, abs=1e-4)


@pytest.mark.slow
@pytest.mark.long
def test_a_known_optimum_is_reached_at_the_wished_divergence_by_five_seeds_of_five(
    tmp_path: Path,
) -> None:
    kl = KlConfig(coefficient=0.2, target=TARGET, horizon=250)  # four times the price it will take
    task = write_ppo_task(
        tmp_path, steps=60, batch=64, minibatch=16, micro_batch=16, validate_every=60, kl=kl
    )
    for seed in range(5):
        run_ppo(task, tmp_path / str(seed), seed=seed)
        last = steps_of(tmp_path / str(seed))[-20:]
        reward, nats = (sum(step[name] for step in last) / 20 for name in ("reward", "kl"))
        assert reward >= 0.9 * best_reward(TARGET), (seed, reward)
        assert nats == pytest.approx(TARGET, rel=0.2), (seed, nats)
