"""How many tokens prompts and completions have: known limits, and stated guesses of means."""

from __future__ import annotations

from dataclasses import dataclass

from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import TOPICS, Proposal, Role
from trainers.model_shapes import ModelShape
from trainers.run_config import RunConfig

_EMPTY = Proposal("diagram", "", "", "", "", "")
_QUESTION = 40
"""Tokens of a question."""


@dataclass(frozen=True)
class Guesses:
    """What nobody knows before a run; means over a stage.

    Attributes:
        proposal: Tokens of a proposal. Six short fields and a caption of a hundred to two
            hundred words.
        code: Tokens of an SVG drawing.
        answer: Tokens of an answer with its train of thought.
        letters: Characters a token, for prompts.
        parsed: Share of proposals that parse.
        rendered: Share of codes that render. The paper starts at about 0.4 (4B) and 0.7
            (7B, 8B).
        kept: Share of a pool that passes the filters.
    """

    proposal: float = 350
    code: float = 1100
    answer: float = 250
    letters: float = 4.0
    parsed: float = 0.9
    rendered: float = 0.7
    kept: float = 0.4


@dataclass(frozen=True)
class PromptTokens:
    """Tokens of the prompts and completions of each role.

    Attributes:
        wording: Tokens of each role's prompt without what other roles wrote; the Solver's with
            its picture.
        limits: Longest completion of each role.
        guesses: Means.
        room: Longest prompt and completion that an engine takes; 0 if there is no such limit.
        told: Tokens of the Solver's prompt with a caption instead of the picture.
        blind: The same with neither.
    """

    wording: dict[Role, int]
    limits: dict[Role, int]
    guesses: Guesses
    room: int
    told: int
    blind: int

    @classmethod
    def of(cls, config: RunConfig, shape: ModelShape, guesses: Guesses) -> PromptTokens:
        """Those of a run."""
        prompts = get_prompts(config.prompts)
        texts: dict[Role, str] = {
            "proposer": prompts.proposer(TOPICS[0]),
            "coder": prompts.coder(_EMPTY, config.code_forms),
            "solver": prompts.solver(""),
        }
        wording = {role: round(len(text) / guesses.letters) for role, text in texts.items()}
        wording["solver"] += _QUESTION
        blind = wording["solver"]
        wording["solver"] += shape.visual_tokens(config.image_size)
        limits: dict[Role, int] = {role: config.stage(role).max_tokens for role in texts}
        room = config.serve.max_model_len if config.policy != "local" else 0
        caption = round(min(guesses.proposal, limits["proposer"]))
        told = round(len(prompts.solver_from_caption("", "")) / guesses.letters) + _QUESTION
        return cls(wording, limits, guesses, room, told + caption, blind)

    def prompt(self, role: Role) -> int:
        """Mean tokens of a role's prompt."""
        if role == "coder":
            return self.wording[role] + self.completion("proposer")
        return self.wording[role]

    def completion(self, role: Role) -> int:
        """Mean tokens of a role's completion."""
        guess = {
            "proposer": self.guesses.proposal,
            "coder": self.guesses.code,
            "solver": self.guesses.answer,
        }[role]
        return round(min(guess, self.limits[role]))

    def longest(self, role: Role) -> tuple[int, int]:
        """Most tokens of prompt and completion that can come to be trained on."""
        prompt, limit = self.needed(role)
        if self.room:
            prompt = min(prompt, max(1, self.room - limit))
        return prompt, limit

    def needed(self, role: Role) -> tuple[int, int]:
        """Most tokens that can be asked for: a proposal at its limit is the Coder's prompt."""
        prompt = self.wording[role] + (self.limits["proposer"] if role == "coder" else 0)
        return prompt, self.limits[role]
