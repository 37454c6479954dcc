"""The reward designs that come with the package, and how to look one up.

Where a design's own setting has one question or no Coder, it is mapped like this: the
hard question is its question, the easy question only serves the Coder; what it says
about one question becomes the mean over the codes of a proposal, in which a code that
does not render counts 0; and its Coder is paid as in ``mm_zero``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmzero_env.errors import UserError, unknown
from mmzero_env.rewards.constants import Constants
from mmzero_env.rewards.design import RewardDesign
from mmzero_env.rewards.design_files import SUFFIX, read_settings

DESIGNS: dict[str, RewardDesign] = {}


def register(design: RewardDesign) -> RewardDesign:
    """Adds a design to the registry under its name.

    Raises:
        UserError: If the name is taken or is the name of a file.
    """
    if design.name in DESIGNS:
        raise UserError(f"a reward design named {design.name!r} is already registered")
    if design.name.endswith(SUFFIX):
        raise UserError(f"{design.name!r} names a file; a registered design needs another name")
    DESIGNS[design.name] = design
    return design


def get_design(name: str | Path, **overrides: object) -> RewardDesign:
    """A design by its name or from a TOML file, with some settings replaced.

    Args:
        name: One of :data:`DESIGNS`, or the path of a file that ends in ``.toml``, see
            :func:`mmzero_env.rewards.design_files.read_settings`.
        **overrides: As for :meth:`RewardDesign.with_overrides`.

    Returns:
        The design.

    Raises:
        UserError: For an unknown name or setting, listing the valid ones, or for a file
            that cannot be used, naming it.
    """
    if str(name).endswith(SUFFIX):
        design = read_design(Path(name))
    elif name in DESIGNS:
        design = DESIGNS[str(name)]
    else:
        raise unknown("reward design", str(name), DESIGNS)
    return design.with_overrides(**overrides) if overrides else design


def read_design(path: Path) -> RewardDesign:
    """The design that a TOML file describes.

    Raises:
        UserError: If the file cannot be used; the message names it, and the line.
    """
    found = read_settings(path)
    if found.base not in DESIGNS:
        raise found.error("base", unknown("reward design", found.base, DESIGNS))
    base = DESIGNS[found.base]
    try:
        design = base.with_overrides(**found.settings)
    except UserError as error:
        raise found.error(_at_fault(base, found.settings, str(error)), error) from error
    return replace(design, name=found.name, summary=found.summary or design.summary)


def _at_fault(base: RewardDesign, settings: Mapping[str, Any], message: str) -> str:
    """Which of several settings a design refuses with a message."""

    def refusal(some: Mapping[str, Any]) -> str:
        try:
            base.with_overrides(**some)
        except UserError as error:
            return str(error)
        return ""

    for name, value in settings.items():
        if refusal({name: value}) == message:
            return name
    # Each is fine alone: the first one that does not go with those before it.
    names = list(settings)
    return next(
        names[count]
        for count in range(len(names))
        if refusal({name: settings[name] for name in names[: count + 1]})
    )


_MM_ZERO = register(
    RewardDesign("mm_zero", "MM-Zero's rewards with sound grading and exact comparisons.")
)
register(
    replace(
        _MM_ZERO,
        name="mm_zero_official",
        summary="MM-Zero's rewards with the published grader, rounding and format check.",
        constants=Constants(
            grading="official", exact_thresholds=False, strict_format=True, memory_enough=0.9
        ),
    )
)
register(
    replace(
        _MM_ZERO,
        name="mm_zero_paper",
        summary="As the paper writes it: a bonus for unusual content, full Coder difficulty.",
        # With the bonus the Proposer's range is the paper's [-1, 1.5].
        proposer={
            **{name: weight for name, weight in _MM_ZERO.proposer.items() if name != "diversity"},
            "novelty": 0.5,
        },
        coder={
            "render": 1.0,
            "solvability": 1.0,
            "uncertainty": 1.0,
            "no_render": -0.1,
            "no_code": -0.05,
        },
    )
)
register(
    replace(
        _MM_ZERO.with_overrides(solvability_cap=1.0),
        name="no_solvability_cap",
        summary="mm_zero whose Proposer is paid for solvability beyond one half.",
    )
)
register(
    replace(
        _MM_ZERO.with_overrides(**{"proposer.diversity": 0.0, "proposer.content_balance": 0.0}),
        name="no_diversity",
        summary="mm_zero without the penalties on near-duplicates and frequent types.",
    )
)
register(
    replace(
        _MM_ZERO.with_overrides(cluster_threshold=0.5, proposer_floor=0.0),
        name="r_zero",
        summary="R-Zero (arXiv 2508.05004): uncertainty less the share of like questions.",
        proposer={"uncertainty": 1.0, "batch_share": -1.0},
        solver={"accuracy": 1.0},
    )
)
register(
    replace(
        _MM_ZERO.with_overrides(cluster_threshold=0.5, proposer_floor=0.0),
        name="visplay",
        # Questions about one picture compete there; here the proposals on one topic do.
        summary="VisPlay (arXiv 2511.15661): the same, counting the questions on one topic.",
        proposer={"uncertainty": 1.0, "topic_share": -1.0},
        solver={"accuracy": 1.0},
    )
)
register(
    replace(
        _MM_ZERO,
        name="evolmm",
        summary="EvoLMM (arXiv 2511.16672): a band of answer entropy, and pay for soft agreement.",
        proposer={"entropy_band": 1.0},
        solver={"agreement": 1.0},
    )
)
register(
    replace(
        _MM_ZERO,
        name="learnability",
        summary="mm_zero with 4c(1 - c) in place of min(c, 1 - c).",
        proposer={**_MM_ZERO.proposer, "difficulty": 0.0, "learnability": 1.0},
        coder={**_MM_ZERO.coder, "difficulty": 0.0, "learnability": 1.0},
    )
)
register(
    replace(
        _MM_ZERO,
        name="caption_grounded",
        summary="mm_zero with silver labels that are voted from the caption, not the picture.",
        label_source="caption",
    )
)
register(
    replace(
        _MM_ZERO,
        name="cycle_consistent",
        summary="caption_grounded whose easy key is read from the caption too, not proposed.",
        proposer={**_MM_ZERO.proposer, "own_answer": 0.5},
        coder={**_MM_ZERO.coder, "difficulty": 0.0, "fidelity": 1.0},
        constants=Constants(trust_own_answer=False, label_consistency=0.9),
        label_source="caption",
    )
)
# Why each of these numbers is what it is: docs/rewards.md, "The design audited".
register(
    RewardDesign(
        "audited",
        "caption_grounded, and every known way to be paid without honest play pays no more.",
        proposer={
            "format": -1.0,
            "solvability": 1.0,
            "difficulty": 1.0,
            "easy_hard": -0.3,
            "content_balance": -0.15,
            "diversity": -0.5,
            "paraphrase": -1.0,
            "leak": -0.5,
            "blind": -1.0,
        },
        coder={
            "render": 0.1,
            "solvability": 1.0,
            "fidelity": 0.5,
            "leak": -0.6,
            "no_code": -0.05,
            "wrong_type": -0.5,
        },
        solver={"accuracy": 0.9, "format": 0.1, "grounding": -0.2},
        constants=Constants(
            coder_solvability_cap=0.5,
            fidelity_cap=0.5,
            grounding_silence=0.25,
            use_leaked=False,
            blind_limit=0.5,
            label_consistency=0.8,
            strict_questions=True,
        ),
        label_source="caption",
    )
)
