"""One episode as a page shows it, from its record.

:func:`episode_page` and :func:`episode_html` serve whoever has a record, not only the report.
The truth is shown where the procedural world knows it; nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from markupsafe import Markup

from mmzero_env import world
from mmzero_env.grading import equivalent
from mmzero_env.leaks import LeakSignals, leak_signals
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import QUESTIONS, Proposal, Question
from mmzero_env.record import CodeRecord, EpisodeRecord, RewardRecord
from mmzero_env.svg_metrics import SvgMetrics, svg_metrics
from trainers.report import pages
from trainers.report.pictures import Pictures
from trainers.report.waterfall import Waterfall, waterfall
from trainers.version import version as installed_version

MAX_TEXT = 6_000
"""Characters of one text that are shown; of a longer one its beginning and its end."""
_TAIL = 1_500


@dataclass(frozen=True)
class Asked:
    """A question with the answer that the Proposer gave, and the true one if known."""

    level: Question
    question: str
    answer: str
    truth: str | None
    right: bool | None


@dataclass(frozen=True)
class Answer:
    """One answer of the Solver: what it boxed, all it wrote, what it was paid."""

    boxed: str
    text: str
    right: bool | None
    reward: float | None
    terms: str


@dataclass(frozen=True)
class Vote:
    """The vote on one question; ``right`` says whether its winner is true, None if not known."""

    level: str
    winner: str
    consistency: float
    valid: int
    total: int
    right: bool | None


@dataclass(frozen=True)
class Drawn:
    """One code: its text, its picture (a class of :class:`Pictures`) or why there is none."""

    number: int
    text: str
    form: str
    picture: str | None
    failure: str
    flags: tuple[str, ...]
    leaks: LeakSignals | None
    votes: tuple[Vote, ...]
    answers: tuple[tuple[str, tuple[Answer, ...]], ...]
    reward: Waterfall


@dataclass(frozen=True)
class EpisodeView:
    """One episode; all texts are raw model output, to be escaped.

    ``unseen`` are answers without the picture, each with its question and what was seen instead.
    """

    id: str
    topic: str
    content_type: str
    caption: str
    asked: tuple[Asked, ...]
    failure: str
    proposal_text: str
    unseen: tuple[tuple[str, str, tuple[Answer, ...]], ...]
    reward: Waterfall | None
    codes: tuple[Drawn, ...]

    @property
    def drawn(self) -> str:
        """``"all"``, ``"some"`` or ``"none"`` of its codes gave a picture."""
        return drawn_share([code.failure == "" for code in self.codes])

    @property
    def labels(self) -> tuple[str, ...]:
        """Which of ``"right"`` and ``"wrong"`` its silver labels of the hard question are.

        Empty where no truth is known or no label was voted.
        """
        verdicts = [v.right for code in self.codes for v in code.votes if v.level == "hard"]
        return tuple(word for word, each in _WORDS if each in verdicts)

    @property
    def leaked(self) -> str:
        """Whether a picture gives the hard answer away in writing; ``"unknown"`` if none is SVG."""
        signals = [code.leaks for code in self.codes if code.leaks is not None]
        if not signals:
            return "unknown"
        return "yes" if any(each.hard_answer for each in signals) else "no"


_WORDS = (("right", True), ("wrong", False))


def drawn_share(drawn: list[bool]) -> str:
    """``"all"``, ``"some"`` or ``"none"``, also for no codes at all."""
    if not any(drawn):
        return "none"
    return "all" if all(drawn) else "some"


def proposal_of(record: EpisodeRecord) -> Proposal | None:
    """The parsed proposal of a record."""
    found = record["proposal"]
    return None if found is None else Proposal(**cast("dict[str, str]", found))


def is_right(claim: str, truth: str | None) -> bool | None:
    """Whether a claimed answer is the true one; None where no truth is known."""
    return None if truth is None else equivalent(claim, truth)


def view(record: EpisodeRecord, pictures: Pictures) -> EpisodeView:
    """What a page shows of a record.

    Args:
        record: A record, as :func:`mmzero_env.record.read_records` gives it.
        pictures: Takes its pictures.
    """
    proposal = proposal_of(record)
    truths: dict[str, str | None] = {}
    asked = []
    if proposal is not None:
        for level in QUESTIONS:
            truths[level] = truth = world.truth(proposal, level)
            answer = proposal.easy_answer if level == "easy" else proposal.hard_answer
            right = is_right(answer, truth)
            asked.append(Asked(level, proposal.question(level), answer, truth, right))
    return EpisodeView(
        id=record["id"],
        topic=record["topic"],
        content_type=proposal.content_type if proposal else "",
        caption=shortened(proposal.caption) if proposal else "",
        asked=tuple(asked),
        failure=sentence(record["failure"]),
        proposal_text=shortened(record["proposal_text"]),
        unseen=tuple(
            (level, how, tuple(_answer(text, None, truths.get(level)) for text in texts))
            for how, given in (
                ("from the caption alone", record["caption_answers"]),
                ("without picture and caption", record["blind_answers"]),
            )
            for level, texts in given.items()
        ),
        # A given proposal was written by nobody here: its reward would mean nothing.
        reward=waterfall(record["reward"]) if record["proposal_text"] else None,
        codes=tuple(
            _drawn(number, code, proposal, truths, pictures)
            for number, code in enumerate(record["codes"], 1)
        ),
    )


def _drawn(
    number: int,
    code: CodeRecord,
    proposal: Proposal | None,
    truths: Mapping[str, str | None],
    pictures: Pictures,
) -> Drawn:
    picture = None if code["png"] is None else pictures.add(code["png"])
    failure = sentence(code["failure"])
    if picture is None and not failure:
        failure = "the recorded picture cannot be read"
    answers = []
    for level, texts in code["answers"].items():
        rewards: list[RewardRecord | None] = list(code["solver_rewards"].get(level, ()))
        # Records of other writers may hold fewer rewards than answers.
        rewards += [None] * (len(texts) - len(rewards))
        shown = (_answer(t, r, truths.get(level)) for t, r in zip(texts, rewards, strict=False))
        answers.append((level, tuple(shown)))
    return Drawn(
        number=number,
        text=shortened(code["code"] if code["code"] is not None else code["text"]),
        form=code["form"] or "",
        picture=picture,
        failure=failure,
        flags=tuple(code["flags"]),
        leaks=_leaks(code, proposal),
        votes=tuple(
            Vote(
                level,
                vote["winner"],
                vote["consistency"],
                vote["valid"],
                vote["total"],
                is_right(vote["winner"], truths.get(level)) if vote["valid"] else None,
            )
            for level, vote in code["votes"].items()
        ),
        answers=tuple(answers),
        reward=waterfall(code["reward"]),
    )


def _answer(text: str, reward: RewardRecord | None, truth: str | None) -> Answer:
    boxed = extract_boxed(text)
    terms = reward["terms"] if reward else {}
    return Answer(
        boxed="" if boxed is None else boxed,
        text=shortened(text),
        right=None if boxed is None else is_right(boxed, truth),
        reward=reward["value"] if reward else None,
        terms=", ".join(f"{name.replace('_', ' ')} {v:+.2f}" for name, v in terms.items() if v),
    )


def _leaks(code: CodeRecord, proposal: Proposal | None) -> LeakSignals | None:
    """Signs of a leak in a picture; None without a picture that is SVG."""
    if proposal is None or code["png"] is None or code["code"] is None or code["form"] != "svg":
        return None
    metrics = svg_metrics(code["code"])
    return leak_signals(metrics.text, proposal) if isinstance(metrics, SvgMetrics) else None


def shortened(text: str) -> str:
    """A text of at most about :data:`MAX_TEXT` characters, its middle left out and counted."""
    left_out = len(text) - MAX_TEXT
    if left_out <= 0:
        return text
    return f"{text[: MAX_TEXT - _TAIL]}\n[… {left_out} characters …]\n{text[-_TAIL:]}"


def sentence(failure: Mapping[str, object] | None) -> str:
    """A recorded failure in words; empty for none."""
    if failure is None:
        return ""
    text = f"{failure['stage']}: {str(failure['reason']).replace('_', ' ')}"
    return f"{text} ({failure['detail']})" if failure["detail"] else text


def view_html(shown: EpisodeView) -> Markup:
    """The HTML of an episode, to be put into a page with :func:`trainers.report.pages.style`."""
    return Markup(pages.environment().get_template("episode.html").render(episode=shown))


def episode_html(record: EpisodeRecord, pictures: Pictures) -> Markup:
    """The HTML of one record, for a page of one's own.

    The page needs :func:`trainers.report.pages.style` and ``pictures.css()`` in its style.

    Args:
        record: A record, as :func:`mmzero_env.record.episode_to_record` makes it.
        pictures: Takes the pictures.
    """
    return view_html(view(record, pictures))


def episode_page(record: EpisodeRecord, title: str = "") -> str:
    """A whole page with one record: complete in itself, without scripts.

    Args:
        record: A record, as :func:`mmzero_env.record.episode_to_record` makes it.
        title: Title and heading; the topic by default.
    """
    pictures = Pictures()
    body = episode_html(record, pictures)
    return (
        pages.environment()
        .get_template("episode_page.html")
        .render(
            title=title or record["topic"] or "Episode",
            policy=pages.policy(),
            css=pages.style(),
            pictures=pictures.css(),
            body=body,
            id=record["id"],
            version=installed_version(),
        )
    )
