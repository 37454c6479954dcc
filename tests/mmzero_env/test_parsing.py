from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmzero_env.parsing import (
    REQUIRED_TAGS,
    content_type,
    effective_content_type,
    extract_boxed,
    extract_python,
    extract_svg,
    parse_proposal,
)
from mmzero_env.protocol import CONTENT_TYPES, Failure, Proposal

FIELDS = {
    "content_type": "map",
    "caption": "Two towns",
    "easy_question": "How many towns?",
    "easy_answer": "2",
    "hard_question": "Towns times three?",
    "hard_answer": "6",
}


def written(**changes: str | None) -> str:
    """A proposal's text; None leaves a block out."""
    texts = {**FIELDS, **changes}
    return "\n".join(f"<{tag}>{text}</{tag}>" for tag, text in texts.items() if text is not None)


def parsed(text: str) -> Proposal:
    proposal = parse_proposal(text)
    assert isinstance(proposal, Proposal), proposal
    return proposal


def test_reads_all_six_tags() -> None:
    assert parsed(written()) == Proposal(**FIELDS)


@pytest.mark.parametrize("tag", REQUIRED_TAGS)
def test_missing_or_unclosed_tag_is_a_failure_that_names_it(tag: str) -> None:
    for text in (written(**{tag: None}), written().replace(f"</{tag}>", "")):
        failure = parse_proposal(text)
        assert isinstance(failure, Failure)
        assert (failure.stage, failure.reason) == ("proposal", "missing_tag")
        assert f"<{tag}>" in failure.detail


def test_content_type_is_optional_and_empty_texts_are_values() -> None:
    assert parsed(written(content_type=None)).content_type == "other"
    assert parsed(written(hard_question="", caption=" ")).hard_question == ""
    assert parsed(written(caption=" ")).caption == ""


@pytest.mark.parametrize("text", ["a / b", "x < 5", "5 > 3 and 2", "A -> B", "<b> bold </b> x"])
def test_blanks_inside_a_text_stay(text: str) -> None:
    assert parsed(written(caption=f"\n {text}\n")).caption == text


def test_blanks_around_and_inside_known_tags_go() -> None:
    text = written().replace("<caption>", "< caption\n>").replace("</caption>", " <\n/caption>")
    assert parsed(text) == Proposal(**FIELDS)
    quoted = parsed(written(caption="the \n<map> <easy_answer> word"))
    assert quoted.caption == "the \n<map><easy_answer>word"


def test_first_opening_pairs_with_the_first_closing_after_it() -> None:
    assert parsed("</caption>" + written()).caption == FIELDS["caption"]
    assert parsed(written() + "<caption>late</caption>").caption == FIELDS["caption"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Data Chart", "data_chart"),
        ("data-chart", "data_chart"),
        ("dataChart", "data_chart"),
        ("MAP", "map"),
        ("infographic", "other"),
        ("Diagram.", "other"),
        ("", "other"),
    ],
)
def test_content_type_names(text: str, name: str) -> None:
    assert content_type(text) == name


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("A flow chart of orders", "diagram"),
        ("A histogram with a map inset", "data_chart"),
        ("A triangle beside a table", "geometry"),
        ("A gantt plan", "timeline"),
        ("Harbours on a map", "map"),
        ("A score grid", "table"),
        ("A poster of a stable", "other"),
    ],
)
def test_caption_decides_when_the_tag_says_nothing(caption: str, name: str) -> None:
    silent = replace(Proposal(**FIELDS), content_type="other", caption=caption)
    assert effective_content_type(silent) == name
    assert effective_content_type(replace(silent, content_type="map")) == "map"


SVG = '<svg viewBox="0 0 9 9"><rect/></svg>'


@pytest.mark.parametrize(
    "text",
    [
        f"```svg\n{SVG}\n```",
        f"Here:\n```SVG {SVG}``` done",
        f"```xml\n<a/>\n```\n```xml\n{SVG}\n```",
        f"<svg>old</svg>\n```svg\n{SVG}\n```",
        f"```xml\n<svg>x</svg>\n```\n```svg\n{SVG}\n```",
        f"I draw {SVG} and stop",
        f"```svg\n{SVG}\n",
    ],
)
def test_extracts_svg(text: str) -> None:
    assert extract_svg(text) == SVG


@pytest.mark.parametrize("text", ["", "```svg\n```", "<svg>cut", "<svgfoo>1</svgfoo>", "no code"])
def test_no_svg(text: str) -> None:
    assert extract_svg(text) is None


PLOT = "import matplotlib.pyplot as plt\n\nplt.bar([1], [2])"


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{PLOT}\n```",
        f"Here:\n```py\n{PLOT}\n```\ndone",
        f"``` not a fence\n```Python title=a.py\n\n{PLOT}\n\n```",
        f"```python3\n{PLOT}\n```\n```python\nlater\n```",
        f"```\npip install matplotlib\n```\n```\n{PLOT}\n```",
        f"```\n{PLOT}\n```",
        f"```\nfrom PIL import Image\n```\n```python\n{PLOT}\n```",
        f"```json\n{{}}\n```\nthen\n```\n{PLOT}\n```",
        f"```svg\n<svg/>\n```\n```python\r\n{PLOT}\n```",
    ],
)
def test_extracts_python(text: str) -> None:
    assert extract_python(text) == PLOT


def test_python_keeps_its_indentation() -> None:
    assert extract_python("```py\n\n    x = 1\n    y = 2\n```") == "    x = 1\n    y = 2"
    assert extract_python("```\n  from PIL import Image\n```") == "  from PIL import Image"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "```python\n```",
        "```python\n \n\n```",
        f"```python\n{PLOT}",
        f"```\n{PLOT}",
        PLOT,
        "```\nimport numpy\n```",
        "```\n# import matplotlib\n```",
        "```\nfrom PILfer import x\n```",
        f"```pythonic\n{PLOT}\n```",
        f"```svg\n{PLOT}\n```",
    ],
)
def test_no_python(text: str) -> None:
    assert extract_python(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{42}", "42"),
        (r"\boxed{1} then \boxed{ 2 }", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{}", ""),
        (r"\boxed{a}}", "a"),
        (r"\boxed{4", None),
        (r"\boxed{1} \boxed{2", None),
        (r"\boxed 4", None),
        ("42", None),
        ("None", None),
    ],
)
def test_last_box(text: str, answer: str | None) -> None:
    assert extract_boxed(text) == answer


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("<>/ \n`{}\\caption_svgboxedxml"), max_size=200))
def test_any_text_gives_a_value_or_a_reason(text: str) -> None:
    proposal = parse_proposal(written(caption=text) if "<" not in text else text)
    assert isinstance(proposal, Proposal | Failure)
    if isinstance(proposal, Proposal):
        assert proposal.content_type in CONTENT_TYPES
    for code in (extract_svg(text), extract_python(text)):
        assert code is None or (code.strip() and code in text)
    answer = extract_boxed(text)
    assert answer is None or answer in text


PIECES = ["<", "< ", "<caption>", "<svg", "```xml<svg", r"\boxed{", "{}"]
PYTHONIC = ["```", "```py ", "```\n", "```\nimport ", "import\n", " ", "\n"]


@pytest.mark.parametrize(
    "piece", ["<", "< ", "<caption>", "<svg", "```xml<svg", r"\boxed{", "{}", *PYTHONIC]
)
def test_a_megabyte_takes_no_time(piece: str) -> None:
    text = "<caption>" + piece * (1_000_000 // len(piece))
    start = time.process_time()
    parse_proposal(text)
    extract_svg(text)
    extract_python(text)
    extract_boxed(text)
    assert time.process_time() - start < 2.0
