r"""One role as a Gymnasium environment; the other two are played inside.

    import gymnasium, mmzero_env

    env = gymnasium.make("mmzero/Solver-v0")
    observation, info = env.reset(seed=1)
    observation, reward, terminated, truncated, info = env.step("<think>..</think>\boxed{7}")

Every view steps :mod:`mmzero_env.self_play_v0` underneath: same episodes, same rewards,
same infos.

| Id                   | An episode is                                           | Turns       |
|----------------------|---------------------------------------------------------|-------------|
| `mmzero/Proposer-v0` | one proposal for a topic                                | 1           |
| `mmzero/Coder-v0`    | one code for a proposal                                 | `codes` = 1 |
| `mmzero/Solver-v0`   | answers to one question about one picture, then a vote  | `answers` = 5 |

A Solver's answer is rewarded for agreement with the majority, and there is no majority
before the last answer is in. So rewards are 0 before the last turn and then the mean over
the turns of the episode, as in the PettingZoo environment; ``info["turns"]`` has the
reward and the terms of every single turn.

A player is anything with the batched ``generate(requests) -> responses`` of a policy, or
a function that turns one request into one text (it is called once a sample). Without one,
Proposer and Coder are played without mistakes in the procedural world, and the Solver is
right four times out of five. These scripted players are privileged: the scripted Solver
reads the caption and never looks at the picture, so it rewards a Coder for any code that
renders, and is as good without a picture. Give ``solver=`` a model when the drawing itself
is to count, or for a design that asks blind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium
from gymnasium.utils import EzPickle

from mmzero_env.arguments import argument_names
from mmzero_env.errors import UserError, unknown
from mmzero_env.protocol import Image, Question, Request, Response, Role
from mmzero_env.self_play_v0 import AGENTS, raw_env
from mmzero_env.world import players

PATIENCE = 100
"""Episodes that a reset tries until the acted role has a turn."""


@runtime_checkable
class Batched(Protocol):
    """A player that answers several requests at once; every policy is one."""

    def generate(self, requests: Sequence[Request]) -> Sequence[Response]:
        """One response a request, each with ``request.n`` completions."""
        ...


Player = Batched | Callable[[Request], str]
"""Who may play a role."""


def default_players() -> dict[Role, Player]:
    """The scripted players; their votes are split now and then."""
    return {
        "proposer": players.oracle(),
        "coder": players.oracle(),
        "solver": players.noisy(0.8),
    }


class SingleRole(gymnasium.Env[dict[str, Any], str], EzPickle):
    """What the three views share; make one of them instead.

    Attributes:
        role: The role that acts.
        players: Who plays the other two.
        request: The request that the next action answers, or None at the end.
    """

    metadata = {
        "render_modes": raw_env.metadata["render_modes"],
        "render_fps": raw_env.metadata["render_fps"],
    }
    role: ClassVar[Role]
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **arguments: Any) -> None:
        """Build the view.

        Args:
            **arguments: A player under the name of either other role, and any argument
                of the PettingZoo environment.

        Raises:
            UserError: If an argument is unknown, out of range, or no player.
        """
        EzPickle.__init__(self, **arguments)
        others = [role for role in AGENTS if role != self.role]
        known = (*others, *argument_names(raw_env.__init__))
        for name in arguments:
            if name == self.role:
                raise UserError(
                    f"the {name} of this environment is you; players are taken for "
                    f"{' and '.join(others)}."
                )
            if name not in known:
                raise unknown("argument", name, known)
        self.players = default_players()
        del self.players[self.role]
        for role in others:
            player = arguments.pop(role, None)
            if player is None:
                continue
            if isinstance(player, type) or not (isinstance(player, Batched) or callable(player)):
                raise UserError(
                    f"{role} must be an object with generate(requests) or a function from a "
                    f"request to a text, got {player!r:.200}."
                )
            self.players[role] = player
        settings = {**self.defaults, **arguments}
        self._inner = raw_env(**settings)
        self.questions: tuple[Question, ...] = self._inner.config.questions
        self._agent = AGENTS[self.role]
        self.render_mode = self._inner.render_mode
        self.observation_space = self._inner.observation_space(self._agent)
        self.action_space = self._inner.action_space(self._agent)
        self._written: dict[str, deque[str]] = {}
        self._skipped = 0
        self._began = False

    @property
    def request(self) -> Request | None:
        """The request that the next action answers; None before a reset and at the end."""
        return self._inner.request

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Play up to the role's first turn.

        An episode that ends before (a malformed proposal, no code that renders) is
        skipped, :data:`PATIENCE` times at most; ``info["skipped"]`` counts.

        Args:
            seed: Seeds this and all later episodes and empties the window.
            options: As for the PettingZoo environment.

        Returns:
            The first observation and its info.

        Raises:
            UserError: For a bad option, or if the players never give the role a turn.
        """
        super().reset(seed=seed)
        options = self._options(dict(options or {}))
        self._written.clear()
        for self._skipped in range(PATIENCE):
            self._inner.reset(seed=None if self._skipped else seed, options=options)
            self._began = True
            self._play_others()
            if self._inner.request is not None:
                return self._inner.observe(self._agent), self._info()
        infos = self._inner.infos
        failures = [infos["proposer_0"]["failure"]]
        failures += [code["failure"] for code in infos["coder_0"]["codes"]]
        reasons = ", ".join(each["reason"] for each in failures if each is not None)
        raise UserError(
            f"{PATIENCE} episodes ended before the {self.role} had a turn; the other roles need "
            f"better players. What went wrong in the last one: {reasons}."
        )

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Take the role's next text and play on to its next turn or to the end.

        Args:
            action: Any string.

        Returns:
            Observation, reward, whether the episode is over, False (nothing is cut
            short), and infos.

        Raises:
            UserError: Before a reset, after the end, or if the action is not a string.
        """
        if not self._began:
            raise UserError("the environment has no episode yet; call reset() before step().")
        if self._inner.request is None:
            raise UserError("the episode is over; call reset() before the next step().")
        self._inner.step(action)
        self._play_others()
        over = self._inner.request is None
        reward = self._inner.rewards[self._agent] if over else 0.0
        return self._inner.observe(self._agent), reward, over, False, self._info()

    def render(self) -> str | Image | None:  # type: ignore[override]
        """As in the PettingZoo environment: a summary, or the pictures side by side."""
        return self._inner.render()

    def close(self) -> None:
        """Stop the processes that draw."""
        self._inner.close()

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        return options

    def _info(self) -> dict[str, Any]:
        """The infos of all roles in one dict; turns are those of the acted role."""
        infos = self._inner.infos
        merged = {**infos["proposer_0"], **infos["coder_0"], **infos[self._agent]}
        return merged | {"skipped": self._skipped}

    def _play_others(self) -> None:
        while (request := self._inner.request) is not None and request.role != self.role:
            if not self._written.get(request.id):
                self._ask(request.role)
            self._inner.step(self._written[request.id].popleft())

    def _ask(self, role: Role) -> None:
        """Have a player answer everything that is open for its role, in one batch."""
        player = self.players[role]
        requests = [each for each in self._inner.open_requests() if each.role == role]
        if isinstance(player, Batched):
            texts = _texts(role, requests, player.generate(requests))
        else:
            texts = {each.id: [player(each) for _ in range(each.n)] for each in requests}
        for request_id, written in texts.items():
            for text in written:
                if not isinstance(text, str):
                    raise UserError(
                        f"the {role} must answer request {request_id} with str, got "
                        f"{type(text).__name__}."
                    )
            self._written[request_id] = deque(written)


class Proposer(SingleRole):
    """The Proposer's view: a topic in, a proposal out."""

    role = "proposer"

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        if options.get("proposal") is not None:
            raise UserError("the Proposer writes the proposal; leave the option 'proposal' out.")
        return options


class Coder(SingleRole):
    """The Coder's view: a proposal in, a code out."""

    role = "coder"
    defaults = {"codes": 1}


class Solver(SingleRole):
    """The Solver's view: a picture and a question in, answers out.

    Each episode asks one of ``questions``, drawn at random, unless the reset option
    ``questions`` says which. A reward design with labels from the caption needs the easy
    question beside the hard one, so it asks all of them, from the caption first. A design
    that compares with blind answers has the hard question asked without a picture, too.
    """

    role = "solver"
    defaults = {"codes": 1}

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        drawn = self.questions[int(self.np_random.integers(len(self.questions)))]
        if options.get("questions") is None and not self._inner.design.needs_caption_answers:
            options["questions"] = (drawn,)
        return options


def _texts(
    role: Role, requests: Sequence[Request], responses: Sequence[Response]
) -> dict[str, list[str]]:
    """The texts of a batch by request id, if every request has all of its answers."""
    texts = {each.request_id: [c.text for c in each.completions] for each in responses}
    for request in requests:
        count = len(texts.get(request.id, ()))
        if count != request.n:
            raise UserError(
                f"the {role} must answer request {request.id} with {request.n} completions, "
                f"got {count}."
            )
    return {request.id: texts[request.id] for request in requests}
