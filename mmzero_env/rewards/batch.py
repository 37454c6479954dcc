"""The well-formed proposals that are scored together, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from mmzero_env.parsing import effective_content_type
from mmzero_env.protocol import Proposal
from mmzero_env.rewards import population
from mmzero_env.rewards.constants import Constants

Values = Sequence[float] | Mapping[int, float]
"""One value a proposal, by its place in the batch."""

# A window of 64 proposals is asked again with every new one.
_content_type = lru_cache(maxsize=128)(effective_content_type)


@dataclass(frozen=True)
class Batch:
    """Values of every proposal of a batch, each computed when a term asks for it.

    Attributes:
        proposals: Well-formed proposals in population order.
        topics: What each was asked about.
        remembered: Captions of earlier steps, oldest first.
        constants: The design's constants.
    """

    proposals: tuple[Proposal, ...]
    topics: tuple[str, ...]
    remembered: tuple[str, ...]
    constants: Constants

    @property
    def fields(self) -> population.Fields:
        """Weight and texts of the three fields whose diversity counts."""
        constants, proposals = self.constants, self.proposals
        return (
            (constants.caption_weight, [p.caption for p in proposals]),
            (constants.easy_question_weight, [p.easy_question for p in proposals]),
            (constants.hard_question_weight, [p.hard_question for p in proposals]),
        )

    @cached_property
    def over_representation(self) -> Values:
        """See :func:`mmzero_env.rewards.population.over_representation`."""
        types = [_content_type(proposal) for proposal in self.proposals]
        return population.over_representation(types, self.constants.allowed_type_share)

    @cached_property
    def crowding(self) -> Values:
        """See :func:`mmzero_env.rewards.population.crowding`."""
        return population.crowding(self.fields, self.constants.cluster_threshold)

    @cached_property
    def novelty(self) -> Values:
        """See :func:`mmzero_env.rewards.population.novelty`."""
        return population.novelty(self.fields, self.constants.cluster_threshold)

    @cached_property
    def batch_share(self) -> Values:
        """:func:`~mmzero_env.rewards.population.cluster_share` of the hard questions."""
        questions = [proposal.hard_question for proposal in self.proposals]
        return population.cluster_share(questions, self.constants.cluster_threshold)

    @cached_property
    def topic_share(self) -> Values:
        """The same among the proposals on one topic."""
        values: dict[int, float] = {}
        for topic in dict.fromkeys(self.topics):
            places = [place for place, other in enumerate(self.topics) if other == topic]
            questions = [self.proposals[place].hard_question for place in places]
            found = population.cluster_share(questions, self.constants.cluster_threshold)
            values.update(zip(places, found, strict=True))
        return values

    @cached_property
    def repetition(self) -> Values:
        """See :func:`mmzero_env.rewards.population.repetition`."""
        captions = [proposal.caption for proposal in self.proposals]
        return population.repetition(captions, self.remembered, self.constants.memory_enough)

    @cached_property
    def paraphrases(self) -> Values:
        """See :func:`mmzero_env.rewards.population.paraphrases`."""
        captions = [proposal.caption for proposal in self.proposals]
        overlap = self.constants.paraphrase_overlap
        return population.paraphrases(captions, self.remembered, overlap)


class LastOfBatch(Batch):
    """The same values, but only of the last proposal, which is all that is computed."""

    @property
    def last(self) -> int:
        """Its place in the batch."""
        return len(self.proposals) - 1

    @cached_property
    def crowding(self) -> Values:
        """See :class:`Batch`."""
        found = population.last_crowding(self.fields, self.constants.cluster_threshold)
        return {self.last: found}

    @cached_property
    def batch_share(self) -> Values:
        """See :class:`Batch`."""
        questions = [proposal.hard_question for proposal in self.proposals]
        found = population.last_cluster_share(questions, self.constants.cluster_threshold)
        return {self.last: found}

    @cached_property
    def topic_share(self) -> Values:
        """See :class:`Batch`."""
        questions = [
            proposal.hard_question
            for proposal, topic in zip(self.proposals, self.topics, strict=True)
            if topic == self.topics[-1]
        ]
        found = population.last_cluster_share(questions, self.constants.cluster_threshold)
        return {self.last: found}

    @cached_property
    def repetition(self) -> Values:
        """See :class:`Batch`."""
        (found,) = population.repetition(
            [self.proposals[-1].caption], self.remembered, self.constants.memory_enough
        )
        return {self.last: found}

    @cached_property
    def paraphrases(self) -> Values:
        """See :class:`Batch`."""
        captions = [proposal.caption for proposal in self.proposals]
        overlap = self.constants.paraphrase_overlap
        return {self.last: population.last_paraphrase(captions, self.remembered, overlap)}
