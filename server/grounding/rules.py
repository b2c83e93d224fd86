"""How answers are grounded: the settings of a grounder."""

from __future__ import annotations

from dataclasses import dataclass

from models.protocols import Reader
from server.grounding.abstention import Abstention
from server.grounding.choice import ChoiceRules
from server.grounding.drafting import Unsupported
from server.grounding.types import Mode

REFUSAL = "I could not find this in the documents."


@dataclass(frozen=True, slots=True)
class GroundingRules:
    """How answers are grounded unless a request says otherwise.

    `num_found` passages are searched, `max_passages` of them enter the prompt. `answer_tokens` is
    kept free in the context for answers whose length the request leaves open, `quote_tokens` for
    quotes, which are short whatever the request allows. `is_instructed` says whether the model
    needs to be told what to do (a model tuned for this task does not). `copy_bias` keeps a model
    that reads excerpts on the sentence that it has begun to repeat; with `is_guided` its sentences
    begin as those do that mode quote would choose. `abstention` None means what suits the model,
    `choice` None what suits the reader.
    Passages that are shown whole bring up to `neighbour_tokens` of their sections along.
    `rewrites_by_model` has the model put follow-up questions into words that stand alone; without
    it rules do. `has_live_links` leaves links and images of documents as Markdown; otherwise they
    are shown as plain words. A `reader` reads the most promising sentences with the question.
    """

    mode: Mode = "quote"
    num_found: int = 12
    max_passages: int = 6
    answer_tokens: int = 512
    quote_tokens: int = 320
    unsupported: Unsupported = "flag"
    has_live_links: bool = False
    is_instructed: bool = True
    copy_bias: float = 12.0
    is_guided: bool = True
    refusal: str = REFUSAL
    neighbour_tokens: int = 600
    rewrites_by_model: bool = False
    choice: ChoiceRules | None = None
    abstention: Abstention | None = None
    reader: Reader | None = None
