"""Python as a second form of code, from the Coder's text to a replayed record."""

from __future__ import annotations

import numpy as np
import pytest

from mmzero_env import self_play_v0
from mmzero_env.errors import UserError
from mmzero_env.parsing import extract_code
from mmzero_env.protocol import CodeOutcome, Drawing, Failure, RenderJob
from mmzero_env.record import episode_to_record, read_records, write_records
from mmzero_env.rendering import Renderer, figures
from mmzero_env.replay import compare
from mmzero_env.rewards import get_design
from mmzero_env.rewards.evidence import code_evidence
from mmzero_env.rewards.roles import CODER_TERMS
from tests.mmzero_env.table_game import PROPOSAL

SVG = "<svg viewBox='0 0 9 9'><rect width='9' height='9' fill='red'/></svg>"
PYTHON = (
    "import matplotlib.pyplot as plt\n"
    "plt.figure(figsize=(4, 4), facecolor='blue')\n"
    "plt.savefig('a.png')"
)


def fenced(label: str, code: str) -> str:
    return f"Here:\n```{label}\n{code}\n```\n"


BOTH = ("svg", "python")


@pytest.mark.parametrize(
    ("text", "forms", "found"),
    [
        (fenced("svg", SVG), BOTH, ("svg", SVG)),
        (fenced("python", PYTHON), BOTH, ("python", PYTHON)),
        (fenced("python", PYTHON), ("svg",), None),
        (fenced("svg", SVG), ("python",), None),
        (fenced("svg", SVG) + fenced("python", PYTHON), BOTH, ("svg", SVG)),
        (fenced("py", PYTHON) + fenced("svg", SVG), BOTH, ("python", PYTHON)),
        (fenced("svg", SVG) + fenced("python", PYTHON), ("python",), ("python", PYTHON)),
        (fenced("", f'{PYTHON}\ns = "{SVG}"'), BOTH, ("python", f'{PYTHON}\ns = "{SVG}"')),
        (f"just {SVG} here", BOTH, ("svg", SVG)),
        (fenced("python", "") + fenced("svg", SVG), BOTH, ("svg", SVG)),
        ("```python\nnever closed " + SVG, BOTH, ("svg", SVG)),
        ("nothing", BOTH, None),
    ],
)
def test_the_first_fence_of_an_allowed_form_decides(text, forms, found) -> None:
    assert extract_code(text, forms) == found


def test_python_is_the_right_type_where_it_was_allowed() -> None:
    constants = get_design("mm_zero_official").constants
    penalty = CODER_TERMS["wrong_type"]
    for form, code, expected in (("python", PYTHON, 0), ("svg", "print()", 1), (None, None, 1)):
        seen = code_evidence(PROPOSAL, code, False, {}, form=form)
        assert penalty(seen, constants) == expected
    assert CodeOutcome("", SVG, Drawing(None, Failure("render", "x"))).form == "svg"


def test_a_renderer_draws_the_forms_that_it_was_made_for() -> None:
    with Renderer(8, workers=0) as renderer:
        with pytest.raises(UserError, match=r"draws svg, but the code of job 'a' is python"):
            renderer.render([RenderJob("a", PYTHON, "python")])
    with pytest.raises(UserError, match="Did you mean 'python'"):
        Renderer(forms=("pyton",))


def test_where_the_sandbox_is_missing_python_is_refused_with_the_mend(monkeypatch) -> None:
    said = "Python figures need bubblewrap, which is not installed: apt-get install bubblewrap."
    monkeypatch.setattr(figures, "_look_once", lambda: said)
    with pytest.raises(UserError, match="apt-get install bubblewrap"):
        self_play_v0.env(code_forms=BOTH)
    self_play_v0.env(code_forms=("svg",)).close()


def test_both_forms_are_drawn_in_one_call(possible) -> None:
    jobs = [
        RenderJob("a", SVG),
        RenderJob("b", PYTHON, "python"),
        RenderJob("c", "raise KeyError(3)", "python"),
        RenderJob("d", PYTHON, "python"),
        RenderJob("e", SVG),
    ]
    with Renderer(16, workers=2, forms=BOTH) as renderer:
        red, blue, failed, again, red_again = renderer.render(jobs)
    assert (red.image == (255, 0, 0)).all() and (blue.image == (0, 0, 255)).all()
    assert failed.failure.reason == "python_error" and "KeyError" in failed.failure.detail
    np.testing.assert_array_equal(blue.image, again.image)
    again.image[:] = red_again.image[:] = 0
    assert red.image.any() and blue.image.any(), "every drawing owns its array"


def test_an_episode_with_python_is_played_recorded_and_replayed(possible, tmp_path) -> None:
    env = self_play_v0.raw_env(codes=2, answers=1, image_size=24, code_forms=BOTH)
    env.reset(seed=2, options={"proposal": PROPOSAL})
    texts = iter((fenced("python", PYTHON), fenced("svg", SVG)))
    while env.request is not None:
        env.step(next(texts) if env.request.role == "coder" else "\\boxed{3}")
    env.close()
    assert [code.form for code in env.outcome.codes] == ["python", "svg"]
    assert all(code.drawing.ok for code in env.outcome.codes)
    record = episode_to_record(
        env.outcome, env.episode_rewards, config=env.config, design=env.design
    )
    assert record["config"]["code_forms"] == list(BOTH)
    write_records(tmp_path / "a.jsonl", [record])
    [read] = read_records(tmp_path / "a.jsonl")
    assert [code["form"] for code in read["codes"]] == ["python", "svg"]
    [comparison] = compare([read])
    assert comparison.difference is None
