"""Which elements the rules of a style sheet may reach, and the work of finding out.

Only the last part of a selector is looked at, so an element may be counted for a rule
that does not apply to it, never the other way round.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable

from lxml import etree

from mmzero_env.rendering.css import declarations, sheet_rules
from mmzero_env.rendering.vocabulary import SVG

_ARGUMENTS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_PSEUDO = re.compile(r":[\w-]+")
_COMBINATORS = re.compile(r" ?[>+~] ?| ")
_ID = re.compile(r"#([\w-]+)")
_CLASS = re.compile(r"\.([\w-]+)")
_TYPE = re.compile(r"[\w-]+")
# Testing one more ancestor or sibling, in units of testing one element.
_STEP = 0.5


class Selectors:
    """The style sheets of a document.

    Attributes:
        tests: Work of matching all selectors, in tests of one selector on one element.
    """

    def __init__(
        self,
        root: etree._Element,
        ids: dict[str, etree._Element],
        elements: int,
        costly: Callable[[str, str], bool],
        budget: float,
    ) -> None:
        """Read the cleaned sheets.

        Args:
            root: The ``<svg>`` element.
            ids: Its elements by id.
            elements: Their number.
            costly: Whether a property with its value is worth knowing later.
            budget: Tests after which counting stops, since the answer is clear.
        """
        self.tests = 0.0
        self._given: dict[etree._Element, list[tuple[str, str]]] = {}
        sheets = [sheet.text for sheet in root.iter(f"{SVG}style") if sheet.text]
        if not sheets:
            return
        index = _Index(root, ids)
        for prelude, content in (rule for sheet in sheets for rule in sheet_rules(sheet)):
            wanted = [pair for pair in declarations(content) if costly(*pair)]
            for selector in _ARGUMENTS.sub("", prelude).split(","):
                *before, last = _COMBINATORS.split(_PSEUDO.sub("", selector.strip()))
                reached = index.reached(last)
                self.tests += elements + _STEP * len(reached) * index.ways(selector, len(before))
                if self.tests > budget:
                    return
                if wanted:
                    for element in reached:
                        self._given.setdefault(element, []).extend(wanted)

    def given(self, element: etree._Element) -> list[tuple[str, str]]:
        """Names and values of the properties that sheets may give an element."""
        return self._given.get(element, [])


class _Index:
    """Elements by the names that selectors use."""

    def __init__(self, root: etree._Element, ids: dict[str, etree._Element]) -> None:
        self.ids = ids
        self.all: list[etree._Element] = []
        self.types: dict[str, list[etree._Element]] = defaultdict(list)
        self.classes: dict[str, list[etree._Element]] = defaultdict(list)
        self.depth = self.siblings = 0
        level = [root]
        while level:
            self.depth += 1
            for element in level:
                self.all.append(element)
                self.types[str(element.tag)[len(SVG) :].lower()].append(element)
                for name in (element.get("class") or "").split():
                    self.classes[name].append(element)
                self.siblings = max(self.siblings, len(element))
            level = [child for element in level for child in element]

    def reached(self, compound: str) -> list[etree._Element]:
        """The elements that the last part of a selector may mean."""
        if match := _ID.search(compound):
            element = self.ids.get(match[1])
            return [] if element is None else [element]
        if match := _CLASS.search(compound):
            return self.classes.get(match[1], [])
        if match := _TYPE.match(compound):
            return self.types.get(match[0].lower(), [])
        return self.all

    def ways(self, selector: str, combinators: int) -> float:
        """In how many ways a selector may be tried on one element, at most."""
        sideways = selector.count("~")
        ways = float(math.comb(self.siblings + sideways, sideways)) if sideways else 1.0
        ways *= math.comb(self.depth + combinators, combinators)
        if ":nth" in selector or "-of-type" in selector or "-child" in selector:
            ways *= 1 + self.siblings
        return ways
