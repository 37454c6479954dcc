"""A fixed proposal with good and bad plays, and ways to play an environment with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmzero_env.episode import MAX_TEXT
from mmzero_env.protocol import Proposal, Request
from mmzero_env.spaces import Utterance

PROPOSAL = Proposal("table", "A table with a cell 3.", "Which number?", "3", "Twice it?", "6")
PROPOSAL_TEXT = (
    "<content_type>table</content_type><caption>A table with a cell 3.</caption>"
    "<easy_question>Which number?</easy_question><easy_answer>3</easy_answer>"
    "<hard_question>Twice it?</hard_question><hard_answer>6</hard_answer>"
)
GOOD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
    '<rect width="64" height="64" fill="white"/><rect x="8" y="8" width="{0}" height="20" '
    'fill="blue"/></svg>'
)
BAD = '<svg viewBox="0 0 64 64"><rect </svg>'
SMALL: dict[str, Any] = {"codes": 2, "answers": 3, "image_size": 32, "render_workers": 0}


def act(request: Request) -> str:
    """A player that proposes well, draws well and answers 3 and 6."""
    if request.role == "proposer":
        return PROPOSAL_TEXT
    if request.role == "coder":
        return GOOD.format(20)
    return "<think>I look.</think>\\boxed{3}" if "easy" in request.id else "\\boxed{6}"


def play(env: Any, player: Callable[[Request], str] = act) -> dict[str, dict]:
    """Play one episode; what each agent had seen when it ended.

    With the default player every second code is bad.
    """
    final = {}
    coded = 0
    for agent in env.agent_iter():
        observation, reward, terminated, _, info = env.last()
        if terminated:
            final[agent] = {"reward": reward, "info": info, "observation": observation}
            env.step(None)
            continue
        request = env.unwrapped.request
        assert agent == f"{request.role}_0" and observation["text"] == request.prompt
        assert env.observation_space(agent).contains(observation)
        assert info["request"]["id"] == request.id and reward == 0
        text = player(request)
        if text == GOOD.format(20):
            text, coded = (text, BAD)[coded % 2], coded + 1
        env.step(text)
    return final


class Lines(Utterance):
    """Samples of one of a few lines, so that random play reaches every role.

    Seeded, since the tests of PettingZoo play a single episode: the first lines drawn
    must include a good code.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(MAX_TEXT, seed=1)
        self.lines = lines

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return self.lines[int(self.np_random.integers(len(self.lines)))]


def lively(env: Any) -> Any:
    """Random actions of this environment propose and draw well most of the time."""
    env.unwrapped._action_spaces |= {
        "proposer_0": Lines(PROPOSAL_TEXT),
        "coder_0": Lines(GOOD.format(9), GOOD.format(40), BAD, "words"),
        "solver_0": Lines("\\boxed{3}", "\\boxed{6}", "<think>x</think>\\boxed{3}", "π"),
    }
    return env
