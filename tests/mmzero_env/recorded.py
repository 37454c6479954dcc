"""Episodes for the tests of records and replay."""

from __future__ import annotations

from mmzero_env import self_play_v0
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.protocol import Completion, Proposal
from mmzero_env.record import batch_to_records, episode_to_record
from mmzero_env.rendering import Renderer
from mmzero_env.rewards import get_design

SIZE = 24
FIELDS = (
    "content_type",
    "caption",
    "easy_question",
    "easy_answer",
    "hard_question",
    "hard_answer",
)
PROPOSAL = Proposal("table", "Ein Feld: 3 · {x}", "Which number?", "3", "Twice it?", "6")
CODES = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle r="5" fill="red"/>'
    '<text y="8" font-size="6">3</text></svg>',
    "no code, only words",
    '<svg viewBox="0 0 9 9"><rect </svg>',
)
# Two surrogates side by side, which JSON would take for one character; a character that
# stands for one on disk; what ends a line somewhere.
ODD = "3 \ud800 \ud83d\ude00 \U0010d83d \U0010d7ff \u2028 \x00 \r\n"


def proposal_text(proposal: Proposal = PROPOSAL) -> str:
    return "".join(f"<{name}>{getattr(proposal, name)}</{name}>" for name in FIELDS)


def finished(proposal: str, options: dict | None = None, env=None):
    """Play one episode with three codes, the first of which renders."""
    env = env or self_play_v0.raw_env(codes=3, answers=2, image_size=SIZE, render_workers=0)
    env.reset(seed=3 if not env.outcome else None, options=options)
    codes = iter(CODES)
    answers = iter(("\\boxed{3}", ODD, "<think>é</think>\\boxed{6}", "\\boxed{5}"))
    while env.request is not None:
        role = env.request.role
        env.step(proposal if role == "proposer" else next(codes if role == "coder" else answers))
    env.close()
    return env


def record_of(env, **context):
    return episode_to_record(env.outcome, env.episode_rewards, **context)


def batch(first: int = 0, size: int = 5, design=None, memory=()):
    """Records of episodes that were scored together; every fifth proposal is broken."""
    design = design or get_design("mm_zero", solvability_cap=0.75)
    config = EpisodeConfig(codes=2, answers=3, prompts="nano")
    episodes = []
    with Renderer(SIZE, workers=0) as renderer:
        for n in range(first, first + size):
            episode = Episode(f"e{n}", "map", seed=2**62 + n, config=config)
            episodes.append(episode)
            # Captions come in pairs, so that proposals crowd each other.
            text = proposal_text(Proposal("map", f"a b c d {n // 2}", "?", str(n), "!", "x"))
            episode.submit(f"e{n}/proposer", [Completion("?" if n % 5 == 4 else text)])
            if episode.finished:
                continue
            square = f'<svg viewBox="0 0 9 9"><rect x="{n}" width="{n + 1}" height="5"/></svg>'
            episode.submit(f"e{n}/coder", [Completion(square), Completion(CODES[n % 3])])
            jobs = episode.pending_renders()
            for job, drawing in zip(jobs, renderer.render(jobs), strict=True):
                episode.draw(job.id, drawing)
            for request in episode.open_requests():
                answers = [f"\\boxed{{{(n + k) % 4}}}" for k in range(3)]
                episode.submit(request.id, [Completion(answer) for answer in answers])
        rewards = design.score([episode.outcome() for episode in episodes], memory)
        return batch_to_records(episodes, rewards, design=design, renderer=renderer, memory=memory)
