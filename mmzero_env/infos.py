"""What an environment tells about an episode beside the observation, as plain data.

Everything here is built of dict, list, str, int, float, bool and None in a fixed
order, so that infos of equal episodes compare equal and can be written as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from mmzero_env.episode import Episode
from mmzero_env.leaks import leak_signals
from mmzero_env.protocol import (
    ROLES,
    CodeForm,
    Drawing,
    EpisodeOutcome,
    EpisodeRewards,
    Failure,
    Proposal,
    Request,
    Role,
    TurnReward,
    Vote,
)
from mmzero_env.svg_metrics import nearest, perceptual_hash, svg_metrics
from mmzero_env.undrawn import NOT_DRAWN


def failure_info(failure: Failure | None) -> dict[str, str] | None:
    """A failure as ``{"stage", "reason", "detail"}``, or None."""
    return None if failure is None else asdict(failure)


def vote_info(vote: Vote) -> dict[str, Any]:
    """A vote as ``{"winner", "consistency", "valid", "total"}``."""
    return asdict(vote)


def turn_info(request_id: str, sample: int, reward: TurnReward) -> dict[str, Any]:
    """One rewarded turn as ``{"request", "sample", "reward", "terms"}``."""
    return {
        "request": request_id,
        "sample": sample,
        "reward": float(reward.value),
        "terms": {name: float(value) for name, value in reward.terms.items()},
    }


def drawing_infos(episode: Episode) -> list[dict[str, Any]]:
    """What became of every code of an episode so far, see :func:`drawing_info`."""
    return [
        drawing_info(form, drawing)
        for form, (_, drawing) in zip(episode.forms, episode.codes, strict=True)
    ]


def drawing_info(form: CodeForm | None, drawing: Drawing | None) -> dict[str, Any]:
    """What became of a code.

    Args:
        form: What the code is written in, None if no code was found.
        drawing: Its drawing, None while it waits for one.

    Returns:
        ``{"extracted": bool, "form", "rendered": bool or None, "failure", "flags"}``.
    """
    return {
        "extracted": form is not None,
        "form": form,
        "rendered": None if drawing is None else drawing.ok,
        "failure": None if drawing is None else failure_info(drawing.failure),
        "flags": [] if drawing is None else list(drawing.flags),
    }


def fingerprint(drawing: Drawing | None) -> int | None:
    """The perceptual hash of a drawing; None without a picture or for a blank stand-in."""
    if drawing is None or drawing.image is None or NOT_DRAWN in drawing.flags:
        return None
    return perceptual_hash(drawing.image)


def code_infos(
    episode: Episode, fingerprints: Sequence[int | None], earlier: Iterable[int]
) -> list[dict[str, Any]]:
    """What is known about every code once all are drawn.

    Args:
        episode: The episode; its proposal is parsed, its codes are drawn.
        fingerprints: :func:`fingerprint` of every drawing.
        earlier: Fingerprints of the other pictures of the window. The episode's own
            codes show one proposal and look alike on purpose, so they are not in it.

    Returns:
        For each code :func:`drawing_info` and besides ``svg`` and ``leaks``, each None
        if the code is not SVG or the guard refuses it. ``svg`` holds ``elements``, ``type_entropy``
        (bits), ``cost`` (plain shapes), ``text_share``, ``phash`` (16 hexadecimal
        digits or None) and ``phash_distance`` (0 to 64 bits, None without another
        picture); ``leaks`` the fields of :class:`mmzero_env.leaks.LeakSignals`.
    """
    earlier = list(earlier)
    infos = []
    for info, form, (code, _), mark in zip(
        drawing_infos(episode), episode.forms, episode.codes, fingerprints, strict=True
    ):
        info |= {"svg": None, "leaks": None}
        metrics = svg_metrics(code) if code is not None and form == "svg" else None
        if metrics is not None and not isinstance(metrics, Failure):
            info["svg"] = {
                "elements": metrics.elements,
                "type_entropy": metrics.type_entropy,
                "cost": metrics.cost,
                "text_share": metrics.text_share,
                "phash": None if mark is None else f"{mark:016x}",
                "phash_distance": None if mark is None else nearest(mark, earlier),
            }
            if isinstance(episode.proposal, Proposal):
                info["leaks"] = asdict(leak_signals(metrics.text, episode.proposal))
        infos.append(info)
    return infos


def state_infos(episode: Episode, codes: list[dict[str, Any]]) -> dict[Role, dict[str, Any]]:
    """What is known about an episode so far, by the role that it concerns.

    Args:
        episode: The episode.
        codes: What is known about its codes, by :func:`drawing_info` or
            :func:`code_infos`.

    Returns:
        For every role ``episode_id``, ``topic`` and ``cut`` (``[request id,
        sample]`` of texts that were too long). Besides, for the Proposer
        ``proposal`` (its six fields or None) and ``failure``; for the Coder
        ``codes``.
    """
    cut = [list(each) for each in episode.cut]
    infos: dict[Role, dict[str, Any]] = {
        role: {"episode_id": episode.id, "topic": episode.topic, "cut": cut} for role in ROLES
    }
    proposal = episode.proposal
    infos["proposer"]["proposal"] = asdict(proposal) if isinstance(proposal, Proposal) else None
    infos["proposer"]["failure"] = failure_info(proposal) if isinstance(proposal, Failure) else None
    infos["coder"]["codes"] = codes
    return infos


def copied(data: Any) -> Any:
    """A copy of plain data, so that what was handed out once never changes."""
    # A call a leaf would cost more than the rest of a turn.
    if type(data) is dict:
        return {key: copied(x) if type(x) in _NESTED else x for key, x in data.items()}
    if type(data) is list:
        return [copied(x) if type(x) in _NESTED else x for x in data]
    return data


_NESTED = (dict, list)


def reward_turns(
    outcome: EpisodeOutcome, rewards: EpisodeRewards, proposal_given: bool
) -> dict[Role, list[dict[str, Any]]]:
    """Every rewarded turn of a finished episode, by role.

    Args:
        outcome: The finished episode.
        rewards: Its rewards.
        proposal_given: Whether the proposal came with the episode, so that the
            Proposer had no turn.

    Returns:
        Lists of :func:`turn_info`, by code, question and sample.
    """
    turns: dict[Role, list[dict[str, Any]]] = {role: [] for role in ROLES}
    if not proposal_given:
        turns["proposer"].append(turn_info(f"{outcome.id}/proposer", 0, rewards.proposer))
    for index, code in enumerate(rewards.codes):
        turns["coder"].append(turn_info(f"{outcome.id}/coder", index, code.coder))
        for question, answers in code.solver.items():
            request_id = f"{outcome.id}/solver/{index}/{question}"
            turns["solver"] += [
                turn_info(request_id, sample, reward) for sample, reward in enumerate(answers)
            ]
    return turns


def all_votes(rewards: EpisodeRewards) -> dict[str, Any]:
    """Every vote of a finished episode, by the name of its info.

    Returns:
        ``votes``, for each code its votes and labels by question, its solvability and its
        difficulty; ``caption_votes`` and ``blind_votes``, by question, the votes on the
        answers that were given from the caption and without picture and caption.
    """
    return {
        "votes": _code_votes(rewards),
        "caption_votes": {q: vote_info(vote) for q, vote in rewards.caption_votes.items()},
        "blind_votes": {q: vote_info(vote) for q, vote in rewards.blind_votes.items()},
    }


def _code_votes(rewards: EpisodeRewards) -> list[dict[str, Any]]:
    return [
        {
            "votes": {question: vote_info(vote) for question, vote in code.votes.items()},
            "labels": {question: vote_info(vote) for question, vote in code.labels.items()},
            "solvability": float(code.solvability),
            "difficulty": float(code.difficulty),
        }
        for code in rewards.codes
    ]


def summary_text(
    episode: Episode, request: Request | None = None, rewards: EpisodeRewards | None = None
) -> str:
    """An episode for a person, one fact a line.

    Args:
        episode: The episode so far.
        request: The request that is answered next, if one is.
        rewards: The rewards of a finished episode, if it is one.

    Returns:
        Several lines without a final line break.
    """
    state = state_infos(episode, drawing_infos(episode))
    lines = [f"episode {episode.id} · topic: {episode.topic}"]
    proposal, failure = state["proposer"]["proposal"], state["proposer"]["failure"]
    if proposal is not None:
        lines += [f"  {name}: {value}" for name, value in proposal.items()]
    elif failure is not None:
        lines.append(f"  no proposal: {failure['reason']}")
    scored = rewards.codes if rewards is not None else ()
    for index, code in enumerate(state["coder"]["codes"]):
        if code["rendered"] is None:
            status = "waits for its drawing"
        else:
            status = "rendered" if code["rendered"] else code["failure"]["reason"]
        reward = f", reward {scored[index].coder.value:.3f}" if scored else ""
        lines.append(f"  code {index}: {status}{reward}")
        votes = scored[index].votes if scored else {}
        lines += [
            f"    {question} vote: {vote.winner!r}, consistency {vote.consistency:.2f}"
            for question, vote in votes.items()
        ]
    if rewards is not None:
        lines.append(f"  proposal reward {rewards.proposer.value:.3f}")
    if request is not None:
        lines.append(f"  next: {request.id}")
    return "\n".join(lines)


def showable(text: str, encoding: str | None) -> str:
    """A text with every character escaped that a stream of that encoding cannot show."""
    coding = encoding or "utf-8"
    return text.encode(coding, "backslashreplace").decode(coding)
