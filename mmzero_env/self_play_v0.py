"""# Self-Play.

This environment is one round of MM-Zero: three roles of a vision-language model
play a chain in which every later role judges the earlier ones.

| Import             | `from mmzero_env import self_play_v0`                          |
|--------------------|----------------------------------------------------------------|
| Creation           | `pettingzoo.make("aec", "mmzero/self-play-v0")`                |
| Actions            | Text                                                           |
| Parallel API       | Yes (one agent acts a step, the actions of the others are not read) |
| Manual Control     | No                                                             |
| Agents             | `agents = ["proposer_0", "coder_0", "solver_0"]`               |
| Agents             | 3                                                              |
| Action Shape       | a string of at most 1,000,000 characters                       |
| Action Values      | any Unicode                                                    |
| Observation Shape  | text: a string; image: (448, 448, 3)                           |
| Observation Values | text: any Unicode; image: [0, 255]                             |

The Proposer is given a topic and writes a proposal: the specification of a picture,
an easy and a hard question with their answers. The Coder is given the proposal and
writes several codes (SVG, or Python where that is allowed). Every code that renders
becomes a picture, and the Solver is asked both questions about it several times. Majority
votes over its answers are the silver labels that all three roles are rewarded with.

### Observation Space

A dictionary for every agent:

| Key     | Space                                 | Meaning                              |
|---------|---------------------------------------|--------------------------------------|
| `text`  | `Utterance`                           | the prompt to answer; empty if none  |
| `image` | `Box(0, 255, (size, size, 3), uint8)` | the prompt's picture; white if none  |

### Action Space

An `Utterance`: any string. What a model writes is never illegal; a malformed text is
scored as such and its reason stands in the infos. Only the first million characters
count; a cut is noted in the infos.

A prompt that wants n samples is answered in n turns of the same agent: 1 turn of the
Proposer, `codes` turns of the Coder, then `answers` turns of the Solver for every
question about every picture. Pictures are drawn when the last code is there. A design that
takes its labels from the caption has the Solver answer from the caption first, without a picture;
one that asks what can be guessed has it answer the hard question without either after that.

### Rewards

Rewards come with the last turn and are 0 before. An agent's reward is the mean over
its turns of the episode, 0 if it had none. The reward of each single turn and the
contribution of every named term stand in the infos. Under the default design `mm_zero`:

| Role     | Reward of a turn                                                           |
|----------|----------------------------------------------------------------------------|
| Proposer | -1 for a malformed proposal, else the mean of capped solvability and       |
|          | difficulty over all codes, less penalties for ease and for repetition      |
| Coder    | 1 + solvability + difficulty if the code renders, else a penalty           |
| Solver   | 0.9 for agreement with the silver label + 0.1 for the format               |

Terms that compare proposals (content-type balance, diversity) see the last `window`
episodes of this environment, of which the past ones take part with their proposals
only. Resetting with a seed empties that window.

### Infos

Plain data, equal for equal seeds and actions. For each agent `episode_id`, `topic`, `cut`,
`request` (id, sample, samples and seed of the turn it has to take, else None), and

| Agent        | Key                   | Meaning                                                   |
|--------------|-----------------------|-----------------------------------------------------------|
| `proposer_0` | `proposal`, `failure` | the parsed proposal, or stage, reason and detail          |
| `coder_0`    | `codes`               | for each code: extracted, form, rendered, failure, flags, |
|              |                       | and from the drawing on `svg` and `leaks`                 |
| all, at end  | `turns`               | for each turn: request, sample, reward, terms             |
| all, at end  | `votes`               | for each code: votes and labels by question, solvability, |
|              |                       | difficulty                                                |
| all, at end  | `caption_votes`       | by question, if the design asks from the caption          |
| all, at end  | `blind_votes`         | on the hard question without both, if the design asks it  |

`svg`: `elements`, `type_entropy` (bits), `cost` (plain shapes), `text_share`, `phash` (64 bits
in hexadecimal) and `phash_distance`, the fewest bits that differ from a picture of another
episode of the window. `leaks`: `hard_answer` (it stands in the picture's text and not in the
caption), `telltale` ("answer", "solution" or "therefore" does), `question_share` (of the hard
question's words), `caption_share` (of the caption's runs of five words). Both are None for Python
and for a code that the guard refuses.

### Starting State

`reset(options={"topic": "map"})` fixes the topic, otherwise one of `topics` is drawn.
`reset(options={"proposal": proposal})` starts from a `Proposal`; the Proposer then has
no turn. `reset(options={"questions": ["hard"]})` asks only that question in this episode.

### Episode Termination

All agents terminate together when no prompt is open: after the Solver's last answer,
or earlier if the proposal is malformed or no code renders.

### Arguments

``` python
self_play_v0.env(
    reward_design="mm_zero", prompts="mm_zero", codes=4, answers=5, image_size=448,
    topics=TOPICS, window=32, render_workers=1, render_mode=None,
    questions=("easy", "hard"), render_backend="cairosvg", code_forms=("svg",),
)
```

`reward_design`: name of a reward design, or a `RewardDesign`.
`prompts`: name of a prompt set, or a `PromptSet`.
`codes`: codes for a proposal. `answers`: answers to each question about each picture.
`image_size`: side of the pictures, in pixels.
`topics`: topics that a reset draws from, each of at most 1,000,000 characters.
`window`: number of episodes, the current one included, that repetition is measured over.
`render_workers`: processes that draw; 0 draws in this process, without limits on time and memory.
`render_mode`: `"ansi"` gives a summary as text, `"rgb_array"` the pictures side by side,
`"human"` prints the summary.
`questions`: questions that the Solver is asked about each picture, in this order.
`render_backend`: what draws. With None nothing is drawn: a code that the guard lets through gets
a blank picture and the flag `not_drawn`. That is for players that do not look and for measuring.
`code_forms`: what the Coder may write, and is told so: `"svg"`, `"python"` (drawn in bubblewrap).

### Version History

* v0: Initial version (0.1.0)
"""

from __future__ import annotations

import difflib
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.utils import EzPickle, seeding
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import wrappers
from pettingzoo.utils.conversions import turn_based_aec_to_parallel

from mmzero_env.arguments import (
    checked_count,
    checked_design,
    checked_forms,
    checked_proposal,
    checked_questions,
    checked_topic,
    checked_topics,
    longest_prompt,
    named,
)
from mmzero_env.episode import MAX_TEXT, Episode, EpisodeConfig
from mmzero_env.errors import UserError, unknown
from mmzero_env.infos import (
    all_votes,
    code_infos,
    copied,
    drawing_infos,
    fingerprint,
    reward_turns,
    showable,
    state_infos,
    summary_text,
)
from mmzero_env.prompts import PromptSet, get_prompts
from mmzero_env.protocol import (
    QUESTIONS,
    ROLES,
    TOPICS,
    CodeForm,
    Completion,
    EpisodeOutcome,
    EpisodeRewards,
    Image,
    Question,
    Request,
    Role,
)
from mmzero_env.rendering import Renderer
from mmzero_env.rewards import RewardDesign
from mmzero_env.spaces import Utterance
from mmzero_env.undrawn import Undrawn

AGENTS: dict[Role, str] = {role: f"{role}_0" for role in ROLES}
"""The agent that plays each role."""


def env(**kwargs: Any) -> AECEnv:
    """The turn-based environment with PettingZoo's check of the call order."""
    return wrappers.OrderEnforcingWrapper(raw_env(**kwargs))


def parallel_env(**kwargs: Any) -> ParallelEnv:
    """The parallel form: one agent acts a step, the actions of the others are not read."""
    return turn_based_aec_to_parallel(env(**kwargs))


class raw_env(AECEnv, EzPickle):
    """The environment without wrappers; the module's docstring describes it.

    Attributes:
        request: The request whose next sample the selected agent has to give, or
            None at the end. It carries what scripted players need.
        outcome: The last finished episode, or None.
        episode_rewards: Its rewards, or None.
    """

    metadata = {
        "name": "self_play_v0",
        "render_modes": ["human", "ansi", "rgb_array"],
        "is_parallelizable": True,
        "render_fps": 1,
    }

    @named
    def __init__(
        self,
        reward_design: str | RewardDesign = "mm_zero",
        prompts: str | PromptSet = "mm_zero",
        codes: int = 4,
        answers: int = 5,
        image_size: int = 448,
        topics: Sequence[str] = TOPICS,
        window: int = 32,
        render_workers: int = 1,
        render_mode: str | None = None,
        questions: Sequence[Question] = QUESTIONS,
        render_backend: str | None = "cairosvg",
        code_forms: Sequence[CodeForm] = ("svg",),
    ) -> None:
        """Build the environment; see the module for the arguments.

        Raises:
            UserError: If an argument is out of range or names nothing known.
        """
        EzPickle.__init__(
            self,
            reward_design,
            prompts,
            codes,
            answers,
            image_size,
            topics,
            window,
            render_workers,
            render_mode,
            questions,
            render_backend,
            code_forms,
        )
        AECEnv.__init__(self)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown("render mode", str(render_mode), self.metadata["render_modes"])
        checked_count("image_size", image_size, 1)
        checked_count("window", window, 1)
        checked_count("render_workers", render_workers, 0)
        self.topics = checked_topics(topics)
        self.render_mode = render_mode
        self.design = checked_design(reward_design)
        asked, forms = checked_questions(questions, self.design), checked_forms(code_forms)
        self.config = EpisodeConfig(codes, answers, asked, prompts, code_forms=forms)
        # After the count is known to be one.
        told, blind = self.design.caption_answers(answers), self.design.blind_answers(answers)
        self.config = replace(self.config, caption_answers=told, blind_answers=blind)
        self.possible_agents = list(AGENTS.values())
        self.agents: list[str] = []
        self.request: Request | None = None
        self.outcome: EpisodeOutcome | None = None
        self.episode_rewards: EpisodeRewards | None = None
        self._roles = {agent: role for role, agent in AGENTS.items()}
        self._past: deque[EpisodeOutcome] = deque(maxlen=window)
        # This episode is one of the window, so one less of the others is remembered.
        self._fingerprints: deque[tuple[int, ...]] = deque(maxlen=window - 1)
        self._marks: tuple[int, ...] = ()
        self._codes: list[dict[str, Any]] = []
        self._known: tuple[str, int, int] = ("", 0, 0)
        self._state: dict[Role, dict[str, Any]] = {}
        self._renderer: Renderer | Undrawn = (
            Undrawn(image_size)
            if render_backend is None
            else Renderer(image_size, render_workers, backend=render_backend, forms=forms)
        )
        self._episode: Episode | None = None
        self._proposal_given = False
        self._blank: Image = np.full((image_size, image_size, 3), 255, np.uint8)
        self._blank.flags.writeable = False
        self._np_random, _ = seeding.np_random()
        longest = longest_prompt(get_prompts(prompts))
        self._observation_spaces = {
            agent: Dict(
                {
                    "text": Utterance(longest),
                    "image": Box(0, 255, self._blank.shape, np.uint8),
                }
            )
            for agent in self.possible_agents
        }
        self._action_spaces = {agent: Utterance(MAX_TEXT) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> Dict:
        """The space of an agent's observations; the same object every time."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> Utterance:
        """The space of an agent's actions; the same object every time."""
        return self._action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Start an episode.

        Args:
            seed: Seeds the topics and episodes from here on and empties the window.
            options: ``topic`` (str), ``proposal`` (:class:`Proposal`) and ``questions``
                (those to ask), all optional. Other keys are left to wrappers.

        Raises:
            UserError: If an option is misspelt or of the wrong type.
        """
        options = options or {}
        known = ("topic", "proposal", "questions")
        for name in options:
            # Wrappers and Farama's tests pass options of their own; a near miss is a typo.
            if name not in known and difflib.get_close_matches(str(name), known, cutoff=0.8):
                raise unknown("reset option", str(name), known)
        topic, proposal = options.get("topic"), options.get("proposal")
        if topic is not None:
            topic = checked_topic(topic)
        config = self.config
        if options.get("questions") is not None:
            asked = checked_questions(options["questions"], self.design)
            config = replace(config, questions=asked)
        if proposal is not None:
            checked_proposal(proposal)
        if seed is not None:
            self._np_random, _ = seeding.np_random(seed)
            self._past.clear()
            self._fingerprints.clear()
        drawn = self.topics[int(self._np_random.integers(len(self.topics)))]
        episode_seed = int(self._np_random.integers(2**63))
        self._episode = Episode(
            id=f"{episode_seed:016x}",
            topic=drawn if topic is None else topic,
            seed=episode_seed,
            config=config,
            proposal=proposal,
        )
        self._codes, self._marks = [], ()
        self._proposal_given = proposal is not None
        self.outcome = None
        self.episode_rewards = None
        self.agents = self.possible_agents[:]
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self._skip_agent_selection = None
        self._select()
        self._refresh_infos()

    def observe(self, agent: str) -> dict[str, Any]:
        """The open prompt of an agent: ``{"text": str, "image": uint8 (size, size, 3)}``."""
        role = self._roles[agent]
        request = self.request if self.request is not None and self.request.role == role else None
        if request is None:
            return {"text": "", "image": self._blank.copy()}
        # Copies: whoever writes into an observation must not change the episode.
        image = request.image if request.image is not None else self._blank
        return {"text": request.prompt, "image": image.copy()}

    def step(self, action: str | None) -> None:
        """Take the selected agent's text as the next sample of its prompt.

        Args:
            action: Any string; None for an agent that has terminated.

        Raises:
            UserError: If the environment was not reset, or a live agent's action is
                not a string.
        """
        if self._episode is None:
            raise UserError("the environment has no episode yet; call reset() before step().")
        if not self.agents:
            raise UserError("the episode is over for all agents; call reset() before step().")
        if self.terminations[self.agent_selection]:
            self._was_dead_step(action)  # type: ignore[arg-type]
            return
        if not isinstance(action, str):
            raise UserError(
                f"the action of {self.agent_selection} must be a str, got {type(action).__name__}."
            )
        assert self.request is not None  # agents live only while a request is open
        self._cumulative_rewards[self.agent_selection] = 0.0
        self._clear_rewards()
        self._episode.submit(self.request.id, [Completion(str(action))])
        if self.request.role == "coder":
            self._take_code(self._episode, last=not self._episode.remaining(self.request.id))
        self._select()
        if self.request is None:
            self._finish()
        else:
            self._refresh_infos()
        self._accumulate_rewards()
        if self.render_mode == "human":
            self.render()

    def render(self) -> str | Image | None:
        """Show the episode in the render mode given at construction.

        Returns:
            ``"ansi"``: a summary as text. ``"rgb_array"``: the pictures of all codes
            side by side, uint8 of shape (size, codes · size, 3), white where none is.
            ``"human"``: None; the summary is printed.

        Raises:
            UserError: If no render mode was given, or before the first reset.
        """
        if self.render_mode is None:
            raise UserError(
                "render() needs a render_mode at construction: "
                f"{', '.join(self.metadata['render_modes'])}."
            )
        if self._episode is None:
            raise UserError("there is nothing to render yet; call reset() first.")
        if self.render_mode == "rgb_array":
            return self._strip(self._episode)
        summary = summary_text(self._episode, self.request, self.episode_rewards)
        if self.render_mode == "ansi":
            return summary
        print(showable(summary, getattr(sys.stdout, "encoding", None)))
        return None

    def close(self) -> None:
        """Stop the processes that draw. A later step starts them again."""
        self._renderer.close()

    def _select(self) -> None:
        assert self._episode is not None
        requests = self._episode.open_requests()
        self.request = requests[0] if requests else None
        self.agent_selection = AGENTS[self.request.role if self.request else "proposer"]

    def open_requests(self) -> tuple[Request, ...]:
        """Every request that misses answers, in the order in which turns are taken."""
        return () if self._episode is None else self._episode.open_requests()

    def _take_code(self, episode: Episode, last: bool) -> None:
        """Note a new code; draw all of them once the last one is there."""
        if not last:
            self._codes = drawing_infos(episode)
            return
        jobs = episode.pending_renders()
        for job, drawing in zip(jobs, self._renderer.render(jobs), strict=True):
            episode.draw(job.id, drawing)
        marks = [fingerprint(drawing) for _, drawing in episode.codes]
        earlier = (mark for past in self._fingerprints for mark in past)
        self._codes = code_infos(episode, marks, earlier)
        self._marks = tuple(mark for mark in marks if mark is not None)

    def _finish(self) -> None:
        assert self._episode is not None
        self.outcome = self._episode.outcome()
        self._past.append(replace(self.outcome, codes=()))
        self._fingerprints.append(self._marks)
        self.episode_rewards = self.design.score_last([*list(self._past)[:-1], self.outcome])
        turns = reward_turns(self.outcome, self.episode_rewards, self._proposal_given)
        self.terminations = dict.fromkeys(self.agents, True)
        self._refresh_infos()
        votes = all_votes(self.episode_rewards)
        for agent in self.agents:
            own = turns[self._roles[agent]]
            self.rewards[agent] = float(np.mean([turn["reward"] for turn in own])) if own else 0.0
            self.infos[agent] |= {"turns": own, **copied(votes)}

    def _refresh_infos(self) -> None:
        assert self._episode is not None
        # Between two answers nothing changes but the request, unless a text was cut.
        known = (self._episode.id, len(self._codes), len(self._episode.cut))
        if known != self._known or self.request is None or self.request.role != "solver":
            self._known, self._state = known, state_infos(self._episode, self._codes)
        state = self._state
        self.infos = {
            agent: {**copied(state[self._roles[agent]]), "request": None} for agent in self.agents
        }
        if self.request is not None:
            done = self.request.n - self._episode.remaining(self.request.id)
            self.infos[self.agent_selection]["request"] = {
                "id": self.request.id,
                "sample": done,
                "samples": self.request.n,
                "seed": self.request.seed,
            }

    def _strip(self, episode: Episode) -> Image:
        images = [self._blank] * self.config.codes
        for index, (_, drawing) in enumerate(episode.codes):
            if drawing is not None and drawing.image is not None:
                images[index] = drawing.image
        return np.concatenate(images, axis=1)
