"""Text tasks as an environment of `verifiers`: its taskset, its episodes, and how its models are asked.

verifiers finds these classes by the name of the module `explore_gym_verifiers`, which stands beside the package:

config = TextEnvConfig(taskset={"id": "explore-gym-verifiers", "env": "Explore/GeneralPoints-Text-v0"})
env = vf.load_environment(config)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import verifiers.v1 as vf
from openai import AsyncOpenAI
from pydantic import Field
from verifiers.v1.dialects.chat import message_to_wire

import explore_gym  # noqa: F401  registers the ids
from explore_gym.envs.text.task import MAX_TASKS, Task


class TextTaskData(vf.TaskData):
    index: int
    """Which of the task's prompts this is."""


class TextTask(vf.Task[TextTaskData, vf.State, vf.TaskConfig]):
    """One prompt; rewards come from the episode."""


class TextTasksetConfig(vf.TasksetConfig):
    id: str = "explore-gym-verifiers"
    env: str = "Explore/Countdown-Text-v0"
    """The id of a text environment, at the level of strings."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the environment, such as split and num_tasks."""


class TextTaskset(vf.Taskset[TextTask, TextTasksetConfig]):
    """All prompts of a text task, by index; infinite where `num_tasks` isn't given.

    Raises:
        ValueError: the environment takes no strings.
    """

    def __init__(self, config: TextTasksetConfig):
        super().__init__(config)
        env = gym.make(config.env, **config.kwargs)
        if not isinstance(env.action_space, gym.spaces.Text):
            raise ValueError(f'env must take strings (ids with -Text, or level="strings"), got {config.env}')
        unwrapped: Any = env.unwrapped
        self.text: Task = unwrapped.task
        self.INFINITE = self.text.num_tasks == MAX_TASKS

    def load(self) -> Iterator[TextTask]:
        for index in range(self.text.num_tasks):
            prompt = self.text.begin(index, self.text.new_memory())
            yield TextTask(TextTaskData(name=f"{self.config.env}#{index}", prompt=prompt, index=index), self.config.task)


class TextEnvConfig(vf.EnvConfig):
    taskset: TextTasksetConfig = TextTasksetConfig()
    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    """Who answers; the runtime is this machine, as nothing that a model writes is run."""


class TextEnv(vf.Env[TextEnvConfig]):
    """A dialogue with a text task; the reward is the sum of what the environment pays, the metrics are its last numbers."""

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        text, index = self.taskset.text, task.data.index
        memory, total = text.new_memory(), 0.0
        text.begin(index, memory)
        metrics: dict[str, Any] = {"success": False}
        async with agents.agent.interaction(task) as interaction:
            segment = await interaction.turn()
            while not segment.terminated:
                reply = text.respond(index, memory, segment.last_reply)
                total, metrics = total + float(reply.reward), reply.metrics
                if reply.terminated:
                    break
                segment = await interaction.turn(reply.text)
        interaction.trace.record_reward("reward", total, 1.0)
        interaction.trace.record_metrics({name: float(value) for name, value in metrics.items() if np.ndim(value) == 0})


class ChatHarness(vf.Harness[vf.HarnessConfig]):
    """One chat completion a turn, asked for by this process: no tools, no program, nothing to install."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        system, prompt = self.resolve_prompt(data)
        messages: list[Any] = [] if system is None else [{"role": "system", "content": system}]
        said = [vf.UserMessage(content=prompt)] if isinstance(prompt, str) else prompt
        messages += [message_to_wire(message) for message in said]
        async with AsyncOpenAI(base_url=endpoint, api_key=secret, max_retries=0) as client:
            await client.chat.completions.create(model=ctx.model, messages=messages)
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")
