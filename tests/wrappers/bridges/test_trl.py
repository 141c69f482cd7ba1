import pytest

pytest.importorskip("trl")
pytest.importorskip("torch")
import torch
from trl import GRPOConfig, GRPOTrainer

from explore_gym.agents.common.hf import as_hugging_face
from explore_gym.agents.common.language_model import GPT, GPTConfig
from explore_gym.agents.common.sft import SFTConfig, fine_tune
from explore_gym.envs.text.arithmetic import Arithmetic
from explore_gym.envs.text.countdown import Countdown
from explore_gym.envs.text.general_points import GeneralPoints
from explore_gym.envs.text.tool_grammar import ToolGrammar
from explore_gym.wrappers.trl import prompt_dataset, reward_function


def train(task, model, tokenizer, folder, dataset, **config):
    """What TRL logs."""
    defaults = dict(num_generations=8, logging_steps=1, lr_scheduler_type="constant", gradient_checkpointing=False)
    arguments = GRPOConfig(
        output_dir=str(folder), save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, **{**defaults, **config}
    )
    trainer = GRPOTrainer(model, reward_function(task), arguments, dataset, processing_class=tokenizer)
    trainer.train()
    return [entry for entry in trainer.state.log_history if "reward" in entry]


def test_prompts_are_messages_or_texts():
    task = Countdown(wording="long", num_tasks=10)
    dataset = prompt_dataset(task, range(4, 7))
    assert dataset["index"][:] == [4, 5, 6]
    assert dataset[1]["prompt"] == [{"role": "user", "content": task.prompt(5)}]
    assert prompt_dataset(task, [5], conversational=False)["prompt"][:] == [task.prompt(5)]
    with pytest.raises(ValueError, match=r"index must be .*10"):
        prompt_dataset(task, [10])


def test_rewards_are_those_of_the_environment():
    task = ToolGrammar(reward="toolrl")
    right, wrong = task.solve(3), "no"
    logged = {}
    reward = reward_function(task)
    assert reward.__name__ == "ToolGrammar"
    paid = reward(
        prompts=["?"] * 3,
        completions=[right, wrong, [{"role": "assistant", "content": right}]],
        index=[3, 3, 3],
        log_metric=logged.__setitem__,
        trainer_state=None,
    )
    assert paid == [task.respond(3, task.new_memory(), text).reward for text in (right, wrong, right)]
    assert paid[0] == paid[2] > paid[1]
    assert logged == {"success": 2 / 3}
    assert reward(completions=[[{"role": "assistant", "content": None}]], index=[3])[0] == paid[1]


@pytest.mark.parametrize(("task", "turns"), [(GeneralPoints(), 5), (Arithmetic(tool=True, calls=2), 3)])
def test_dialogues_are_refused(task, turns):
    for make in (reward_function, lambda task: prompt_dataset(task, [0])):
        with pytest.raises(ValueError, match=f"{type(task).__name__} is a dialogue of up to {turns} turns"):
            make(task)


@pytest.mark.slow
def test_grpo_of_trl_improves_a_base_model_on_countdown(tmp_path, as_theirs):
    """A model that was taught right and wrong answers gives more right ones after 20 updates."""
    task = Countdown(cards=2, low=1, high=4, target=(2, 16), skill=0.4)
    torch.manual_seed(0)
    model = GPT(GPTConfig(task.tokenizer.vocab_size, context=32, num_layers=1, d_model=32, num_heads=2), task.tokenizer)
    fine_tune(model, task, SFTConfig(num_prompts=512, steps=150, batch_size=64, learning_rate=1e-2, warm_up=10))
    dataset = prompt_dataset(task, range(512), conversational=False)
    config = dict(per_device_train_batch_size=256, max_completion_length=5, learning_rate=1e-3, max_steps=20, seed=1)
    logs = train(task, as_hugging_face(model), as_theirs(task.tokenizer), tmp_path, dataset, **config)
    assert len(logs) == 20
    success = [log["success"] for log in logs]
    assert [log["rewards/Countdown/mean"] for log in logs] == pytest.approx(success)
    print(success)
    assert 0.05 < sum(success[:3]) / 3 < 0.3
    assert sum(success[-5:]) / 5 > sum(success[:3]) / 3 + 0.1


def test_grpo_of_trl_trains_a_chat_model_on_any_task(tmp_path, as_theirs):
    """Random weights and English prompts: rewards are those of wrong answers."""
    task = GeneralPoints(attempts=1, wording="long")
    torch.manual_seed(0)
    model = GPT(GPTConfig(task.tokenizer.vocab_size, context=320, num_layers=1, d_model=16, num_heads=2), task.tokenizer)
    tokenizer = as_theirs(task.tokenizer)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    config = dict(per_device_train_batch_size=4, num_generations=2, max_completion_length=6, max_steps=2)
    logs = train(task, as_hugging_face(model), tokenizer, tmp_path, prompt_dataset(task, range(8)), **config)
    assert [log["rewards/GeneralPoints/mean"] for log in logs] == [-3.0, -3.0]
