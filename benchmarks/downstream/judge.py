"""A judge model's verdicts, beside those of the rules.

The published evaluation asks Qwen2.5-14B-Instruct at temperature 0 for Yes or No (at most 16
tokens) and counts an answer that begins with yes. It cuts the question to 400 characters, which
drops the options, and shows an answer whose nested braces were cut; here the judge gets both
whole, through the chat template of its server. The wording is ours.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents.policy import Policy
from benchmarks.downstream.passes import Graded
from benchmarks.downstream.scoring import Item, Verdict
from mmzero_env.protocol import Request, Sampling

PROMPT = """\
A model was asked a question about a picture. Decide whether its answer is right.

Question:
{question}

Right answer:
{answer}

Answer of the model:
{given}

The answer is right if it means the same as the right answer; wording, units and format do not \
count, and for a multiple-choice question the letter and the words of an option are the same. Say \
exactly one word: Yes or No."""

MAX_TOKENS = 16
_BATCH = 64


@dataclass(frozen=True)
class Case:
    """What a judge is asked."""

    question: str
    answer: str
    given: str

    @property
    def id(self) -> str:
        """Names the case whatever model gave the answer."""
        text = "\x00".join((self.question, self.answer, self.given))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def prompt(self) -> str:
        """The judge's message; nothing that a model wrote is read as a template."""
        parts = {"question": self.question, "answer": self.answer, "given": self.given}
        return re.sub(r"\{(question|answer|given)\}", lambda found: parts[found[1]], PROMPT)


class Judge:
    """Asks a policy once for every different case and keeps what it said in a file.

    Attributes:
        unclear: How many verdicts were neither Yes nor No; they count as No.
    """

    def __init__(self, policy: Policy, path: Path):
        self._policy, self._path = policy, path
        self.unclear = 0
        self._said: dict[str, str] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    found = json.loads(line)
                except ValueError:
                    # The last line of a run that was killed while it wrote it.
                    continue
                if found["judge"] == policy.name:
                    self._said[found["id"]] = found["said"]

    def over(self, items: Sequence[Item], graded: Graded) -> Graded:
        """The same answers with the judge's verdicts; without an answer it is not asked.

        Raises:
            PolicyError: If the judge failed; what it said so far is kept.
        """
        cases = {
            (place, sample): Case(item.question, item.answer, verdict.given)
            for place, (item, row) in enumerate(zip(items, graded.verdicts, strict=True))
            for sample, verdict in enumerate(row)
            if verdict.given
        }
        self._ask(list({case.id: case for case in cases.values()}.values()))

        def judged(place: int, sample: int, verdict: Verdict) -> Verdict:
            case = cases.get((place, sample))
            return replace(verdict, right=case is not None and self._right(case))

        rows = (
            tuple(judged(place, sample, verdict) for sample, verdict in enumerate(row))
            for place, row in enumerate(graded.verdicts)
        )
        return replace(graded, verdicts=tuple(rows))

    def _ask(self, cases: Sequence[Case]) -> None:
        missing = [case for case in cases if case.id not in self._said]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            sampling = Sampling(temperature=0.0, max_tokens=MAX_TOKENS)
            responses = self._policy.generate(
                [Request(c.id, "solver", c.prompt(), sampling=sampling) for c in batch]
            )
            with self._path.open("a", encoding="utf-8") as file:
                for response in responses:
                    said = response.completions[0].text
                    self._said[response.request_id] = said
                    line = {"judge": self._policy.name, "id": response.request_id, "said": said}
                    file.write(json.dumps(line) + "\n")

    def _right(self, case: Case) -> bool:
        word = re.match(r"\W*(yes|no)\b", self._said[case.id], re.IGNORECASE)
        if word is None:
            self.unclear += 1
        return word is not None and word[1].lower() == "yes"
