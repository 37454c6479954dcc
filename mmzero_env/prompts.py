"""What each role is told: prompt sets, and safe substitution of model text into them.

A prompt set is four plain templates with fields such as ``{caption}``. Fields are
replaced in one pass over the *template*, so braces, backslashes or field names
inside model-written text stay as they are: nothing that a model wrote is ever
read as a template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmzero_env.errors import UserError, unknown
from mmzero_env.protocol import CONTENT_TYPES, CodeForm, Proposal

_PROPOSAL_FIELDS = (
    "content_type",
    "caption",
    "easy_question",
    "easy_answer",
    "hard_question",
    "hard_answer",
)


def _fill(template: str, values: Mapping[str, str]) -> str:
    pattern = "|".join(re.escape("{" + name + "}") for name in values)
    return re.sub(pattern, lambda match: values[match[0][1:-1]], template)


@dataclass(frozen=True)
class PromptSet:
    r"""The wording of all roles; braces that are not a field are literal text.

    Attributes:
        name: Key in the registry.
        proposer_template: Must hold ``{topic}``.
        coder_template: Must hold ``{caption}``; may hold every field of
            :class:`~mmzero_env.protocol.Proposal`.
        solver_template: Must hold ``{question}``; the picture stands before it.
        caption_template: Must hold ``{caption}`` and ``{question}``; used when a
            Solver answers from the words instead of from the picture.
        python_template: The Coder's message when it may write Python only; fields as in
            ``coder_template``. Empty: the set has no wording for that.
        either_template: The same when it may write SVG or Python.

    Raises:
        UserError: If a template lacks a field that it must hold.

    Examples:
        >>> short = PromptSet("short", "{topic}", "{caption}", "{question} \\boxed{}",
        ...                   "{caption} {question} \\boxed{}")
        >>> short.solver("How many {topic}s?")
        'How many {topic}s? \\boxed{}'
    """

    name: str
    proposer_template: str
    coder_template: str
    solver_template: str
    caption_template: str
    python_template: str = ""
    either_template: str = ""

    def __post_init__(self) -> None:
        """Check that no template forgets what it has to carry."""
        for attribute, fields in (
            ("proposer_template", ("topic",)),
            ("coder_template", ("caption",)),
            ("solver_template", ("question",)),
            ("caption_template", ("caption", "question")),
            ("python_template", ("caption",) if self.python_template else ()),
            ("either_template", ("caption",) if self.either_template else ()),
        ):
            for name in fields:
                if "{" + name + "}" not in getattr(self, attribute):
                    raise UserError(
                        f"{attribute} of the prompt set {self.name!r} must contain the field "
                        f"{{{name}}}, but it does not."
                    )

    def proposer(self, topic: str) -> str:
        """The Proposer's message for a topic."""
        return _fill(self.proposer_template, {"topic": topic})

    def coder(self, proposal: Proposal, forms: Sequence[CodeForm] = ("svg",)) -> str:
        """The Coder's message for a proposal.

        Args:
            proposal: What is to be drawn.
            forms: What the Coder may write, see :meth:`check_forms`.

        Raises:
            UserError: If the set has no wording for these forms.
        """
        values = {name: getattr(proposal, name) for name in _PROPOSAL_FIELDS}
        return _fill(self._coder_template(forms), values)

    def check_forms(self, forms: Sequence[CodeForm]) -> None:
        """Refuse forms of code that the set has no Coder's message for.

        Raises:
            UserError: Naming the template that is missing.
        """
        self._coder_template(forms)

    def _coder_template(self, forms: Sequence[CodeForm]) -> str:
        if "python" not in forms:
            return self.coder_template
        attribute = "either_template" if "svg" in forms else "python_template"
        template = getattr(self, attribute)
        if not template:
            raise UserError(
                f"the prompt set {self.name!r} has no wording for code_forms={tuple(forms)}: its "
                f"{attribute} is empty. Choose other code_forms or a prompt set that has it "
                "(mm_zero has)."
            )
        return template

    def solver(self, question: str) -> str:
        """The Solver's message for a question about the picture before it."""
        return _fill(self.solver_template, {"question": question})

    def solver_from_caption(self, caption: str, question: str) -> str:
        """The Solver's message when the caption stands in for the picture."""
        return _fill(self.caption_template, {"caption": caption, "question": question})


_PROPOSER = f"""\
Topic: {{topic}}

You are an expert designer of visual content. Within this topic, invent one information-rich \
picture that somebody else will draw by writing code, and two questions that are answered by \
looking at it.

Plan before you write, without showing the plan: choose a subject inside the topic that is not \
the first one that comes to mind; fix several data elements with all their values; find questions \
that make a reader analyse the picture.

Then reply with the following six blocks, in this order, and nothing before, between or after them:

<content_type>one of: {", ".join(CONTENT_TYPES)}</content_type>
<caption>the full specification of the picture</caption>
<easy_question>a question that one look answers</easy_question>
<easy_answer>its answer</easy_answer>
<hard_question>a question that takes several steps</hard_question>
<hard_answer>its answer</hard_answer>

The caption is all that the person who draws will know. Give every label, number, unit, colour and \
position that matters. It must show at least three of these traits:
- two or more series or groups
- annotations or callouts
- a second panel or an inset
- particular colours or marker shapes that carry meaning
- derived values such as totals, differences, rates or averages
- a pattern beyond a plain trend: a crossing, an outlier, a cycle, a break
- a geometric construction with measurements

Do not repeat what everybody draws: no monthly sales or revenue, no data that only climb or only \
fall, no axis called just "Category", "Value", "X" or "Y", no chart with fewer than three data \
elements.

The easy question is answered by reading one thing straight off the picture.

The hard question needs more than one step and combines different parts of the picture. At least \
one value in the calculation must be readable only in the picture, so never put all the needed \
values into the question.
Bad: "A pool is 25 m long and Ana swims 12 lengths. How many metres does she swim?" (the picture \
is not needed)
Bad: "Route A takes 48 minutes and route B takes 31. How many minutes does B save?" (the question \
gives away both values)
Good: "How many minutes longer is the slowest route than the average of the other three?"
Good: "If the tank with the second highest level is emptied into the smallest one, how many litres \
does the smallest one then hold?"

Each answer is a single number, a single word or a very short phrase. For a quantity, write the \
number alone, without a unit. For a category, write the label alone, as it stands in the picture. \
Both answers must follow from the caption."""

_CODER_GIVEN = """\
Kind of picture: {content_type}
Chart description:
{caption}

Easy question: {easy_question}
Easy answer: {easy_answer}
Hard question: {hard_question}
Hard answer: {hard_answer}

"""

_CODER_AIM = """

A reader who sees nothing but your picture has to reach exactly the easy answer, so the data that \
the easy question asks about must be plainly visible. The data behind the hard question must be \
visible too, but print neither the questions nor the hard answer.

"""

_CODER_SVG = """\
- Set xmlns="http://www.w3.org/2000/svg" and a viewBox, for instance viewBox="0 0 800 600".
- Draw a white rectangle over the whole viewBox first, as the background.
- Use <text> for the title and for every label, axis value and annotation: font-size 14 or more \
for titles, 12 or more for labels.
- Give series and areas fills that are easily told apart.
- Draw axes with <line>, bars with <rect>, line charts with <polyline> or <path>, pie slices with \
<path> arcs or circles with stroke-dasharray.
- Keep it self-contained: no external files, images, fonts or style sheets.
- Let nothing overlap or run out of the viewBox, and keep text and background in strong contrast.

"""

# What the sandbox offers and how it finds the figure: mmzero_env.rendering.figures.
_CODER_PYTHON = """\
- Import nothing but the standard library, numpy, matplotlib and PIL. There is no network, no file \
to read and no screen.
- Make one figure, on a white background: leave it open, or save it as a PNG file in the working \
directory.
- Write the data into the code; do not draw random numbers.
- Give the title and every label, axis value and annotation as text of readable size, and series \
fills that are easily told apart.
- Let nothing overlap or be cut off at the edge.

"""

_CODER = (
    f"Visual type: svg\n{_CODER_GIVEN}"
    "Write the SVG source of this picture. Write plain SVG markup that starts with <svg; no "
    f"Python, no JavaScript, no other language.{_CODER_AIM}{_CODER_SVG}"
    "Put the complete code into one fenced block:\n\n```svg\n<svg ...> ... </svg>\n```"
)

_CODER_IN_PYTHON = (
    f"Visual type: python\n{_CODER_GIVEN}"
    "Write a Python program that draws this picture with matplotlib or PIL; no SVG, no other "
    f"language.{_CODER_AIM}{_CODER_PYTHON}"
    "Put the complete program into one fenced block:\n\n"
    "```python\nimport matplotlib.pyplot as plt\n...\n```"
)

_CODER_IN_EITHER = (
    f"Visual type: svg or python\n{_CODER_GIVEN}"
    "Write code that draws this picture: either plain SVG markup that starts with <svg, or a "
    "Python program that uses matplotlib or PIL. Choose the one that suits the picture better and "
    f"write that one only.{_CODER_AIM}If you write SVG:\n{_CODER_SVG}"
    f"If you write Python:\n{_CODER_PYTHON}"
    "Put the complete code into one fenced block that names its language:\n\n"
    "```svg\n<svg ...> ... </svg>\n```\n\nor\n\n"
    "```python\nimport matplotlib.pyplot as plt\n...\n```"
)

_SOLVER_FORM = (
    "Think step by step inside <think> and </think>. Right after </think>, write the final answer "
    "inside \\boxed{} and stop. The box holds one number, one word or one short phrase: no unit, "
    "no sentence."
)

_MM_ZERO = PromptSet(
    name="mm_zero",
    proposer_template=_PROPOSER,
    coder_template=_CODER,
    solver_template="{question}\n\n" + _SOLVER_FORM,
    caption_template=(
        "A picture is described in words.\n\n{caption}\n\nAnswer this question about the picture: "
        "{question}\n\n" + _SOLVER_FORM
    ),
    python_template=_CODER_IN_PYTHON,
    either_template=_CODER_IN_EITHER,
)

# A few tokens a prompt: the bundled model is trained on exactly these strings.
_NANO = PromptSet(
    name="nano",
    proposer_template="{topic}\nPropose a picture with an easy and a hard question.",
    coder_template=(
        "Draw this as SVG. {caption}\n{easy_question} {easy_answer}\n{hard_question} {hard_answer}"
    ),
    solver_template="{question}\nThink, then answer in \\boxed{}.",
    caption_template="{caption}\n{question}\nThink, then answer in \\boxed{}.",
)

_PROMPTS: dict[str, PromptSet] = {prompts.name: prompts for prompts in (_MM_ZERO, _NANO)}


def register_prompts(prompts: PromptSet) -> None:
    """Make a prompt set available under its name.

    Args:
        prompts: The set. Registering an equal set again changes nothing.

    Raises:
        UserError: If another set already has that name.
    """
    known = _PROMPTS.setdefault(prompts.name, prompts)
    if known != prompts:
        raise UserError(
            f"a prompt set named {prompts.name!r} with other templates exists already; "
            "give yours another name."
        )


def get_prompts(prompts: str | PromptSet) -> PromptSet:
    """Look up a prompt set by name; a :class:`PromptSet` is returned as it is.

    Raises:
        UserError: If there is no set of that name; the message lists all names.
    """
    if isinstance(prompts, PromptSet):
        return prompts
    if prompts not in _PROMPTS:
        raise unknown("prompt set", str(prompts), _PROMPTS)
    return _PROMPTS[prompts]
