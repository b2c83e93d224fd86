"""Mode `grounded`: passages of one's own collection, a question, a cited answer or a refusal."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from models.imitation.collecting.prompts import GROUNDED_VERSION, ask_grounded
from models.imitation.collecting.screening import to_line
from models.imitation.collecting.seeds import Seed, SeedSet
from models.imitation.collecting.teacher import TeacherRequest
from models.imitation.collecting.types import Answer, Asking, Draft
from models.imitation.conversations import SourcePassage
from models.imitation.errors import TrainingDataInvalid
from models.imitation.tokenizer import REFUSAL

UNANSWERABLE_SHARE = 0.3
NUM_PASSAGES = 4
NUM_STYLES = 5
MIN_PASSAGE_WORDS = 12
PROMPTS_PER_ROUND = 16

_MARK = re.compile(r"\[(\d+)\]")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_REPLY = re.compile(
    r"\s*Question:\s*(?P<question>.+?)\s*^[ \t]*Answer:\s*(?P<answer>.+)", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class SampledPassage:
    """A passage of the collection; `document` is the id, `path` the name that people know."""

    id: int
    title: str
    text: str
    document: str
    path: str
    license: str | None = None


class PassageSource(Protocol):
    """The collection that passages are sampled from."""

    fingerprint: str
    num_passages: int

    def read(self, index: int) -> SampledPassage:
        """The passage at `index`, from 0, in an order that stays while the fingerprint does."""
        ...

    def find_near(self, passage: SampledPassage, num_near: int) -> list[SampledPassage]:
        """Up to `num_near` other passages, those that are most like it first."""
        ...


@dataclass(frozen=True, slots=True)
class _Case:
    """What one request shows: `target` is the place of the sampled passage, from 1."""

    passages: tuple[SampledPassage, ...]
    target: int
    styles: tuple[Seed, ...]
    is_answerable: bool

    def to_request(self) -> TeacherRequest:
        prompt = ask_grounded(
            self.sources, self.target, self.styles, is_answerable=self.is_answerable
        )
        return TeacherRequest(prompt, max_tokens=512, temperature=0.7)

    @property
    def sources(self) -> tuple[SourcePassage, ...]:
        return tuple(SourcePassage(str(p.id), p.title, p.text) for p in self.passages)


class GroundedMode:
    """One row a request: several passages in random order, one of them asked about.

    The share `unanswerable` of the requests asks for a question that none of the passages answers.
    Answers cite as `[n]`, the n-th of the row's passages. Raises `TrainingDataInvalid` where the
    collection holds nothing to ask about.
    """

    name = "grounded"
    prompt_version = GROUNDED_VERSION

    def __init__(
        self,
        seeds: SeedSet,
        seed: int,
        source: PassageSource,
        *,
        unanswerable: float = UNANSWERABLE_SHARE,
        num_passages: int = NUM_PASSAGES,
    ) -> None:
        self._seeds = seeds
        self._seed = seed
        self._source = source
        self._unanswerable = unanswerable
        self._num_passages = num_passages
        # An answer that refuses shows another style than one that tells.
        self._styles = {
            True: [s for s in seeds.seeds if not s.output.startswith(REFUSAL)],
            False: [s for s in seeds.seeds if s.output.startswith(REFUSAL)],
        }
        if not all(self._styles.values()):
            raise TrainingDataInvalid(
                f"seeds of this mode need answers of both kinds: some that are {REFUSAL!r},"
                " and others.",
                param="seeds",
            )

    @property
    def plan(self) -> Mapping[str, Any]:
        return {
            "seed": self._seed,
            "seeds": self._seeds.digest,
            "collection": self._source.fingerprint,
            "unanswerable": self._unanswerable,
            "num_passages": self._num_passages,
        }

    def drafts(self, run: Asking) -> Iterator[Draft]:
        targets = self._targets()
        numbers = count()
        known: set[str] = set()
        while True:
            num_prompts = min(PROMPTS_PER_ROUND, run.num_wanted)
            cases = [self._make_case(next(numbers), next(targets)) for _ in range(num_prompts)]
            answers = run.ask([case.to_request() for case in cases])
            for case, answer in zip(cases, answers, strict=False):
                question, text, reason = _read(case, answer, known)
                if reason is None:
                    known.add(question.lower())
                    yield _to_draft(case, question, text, answer)
                else:
                    run.drop(reason)

    def _targets(self) -> Iterator[SampledPassage]:
        """Every passage once in random order, then all in another order, and so on."""
        for lap in count():
            order = list(range(self._source.num_passages))
            random.Random(f"{self._seed}/grounded/lap/{lap}").shuffle(order)
            is_barren = True
            for index in order:
                passage = self._source.read(index)
                if len(passage.text.split()) >= MIN_PASSAGE_WORDS:
                    is_barren = False
                    yield passage
            if is_barren:
                raise TrainingDataInvalid(
                    f"the collection has no passage of at least {MIN_PASSAGE_WORDS} words;"
                    " add documents with `mynah ingest PATH`.",
                    param="collection",
                )

    def _make_case(self, number: int, target: SampledPassage) -> _Case:
        chance = random.Random(f"{self._seed}/grounded/{number}")
        is_answerable = chance.random() >= self._unanswerable
        passages = [target, *self._source.find_near(target, self._num_passages - 1)]
        chance.shuffle(passages)
        styles = self._styles[is_answerable]
        shown = chance.sample(styles, min(NUM_STYLES, len(styles)))
        return _Case(tuple(passages), passages.index(target) + 1, tuple(shown), is_answerable)


def _read(case: _Case, answer: Answer, known: set[str]) -> tuple[str, str, str | None]:
    """Question, answer, and the reason against the pair if there is one."""
    found = _REPLY.match(answer.reply.text)
    if answer.reply.is_cut or found is None:
        return "", "", "cut" if answer.reply.is_cut else "unreadable"
    question, text = to_line(found["question"]), found["answer"].strip()
    passages = [f"{p.title}\n{p.text}" for p in case.passages]
    reason = check_answer(text, passages, case.target, is_answerable=case.is_answerable)
    if _MARK.search(question):
        reason = "question_cites"
    elif question.lower() in known:
        reason = "duplicate"
    return question, text, reason


def check_answer(
    answer: str, passages: Sequence[str], target: int, *, is_answerable: bool
) -> str | None:
    """The reason against an answer: a mark or a number that no passage backs, or the wrong kind.

    Every line ends with a mark, but for the refusal and "Yes." or "No."; a mark names one of
    `passages`, from 1; each number stands in a passage that the answer cites.
    """
    marks = {int(mark) for mark in _MARK.findall(answer)}
    if not marks <= set(range(1, len(passages) + 1)):
        return "citation_unknown"
    if answer.startswith(REFUSAL) == is_answerable:
        return "refused" if is_answerable else "not_refused"
    told = answer.removeprefix(REFUSAL).strip()
    if not is_answerable and not told:
        return None
    if is_answerable and target not in marks:
        return "target_uncited"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    # A line that ends with a colon introduces a list.
    if not all(re.search(r"\[\d+\]\.?$", line) or line.endswith(":") for line in lines):
        return "uncited"
    cited = " ".join(passages[mark - 1] for mark in sorted(marks))
    said = _NUMBER.findall(re.sub(r"^\d+[.)]\s", "", _MARK.sub("", told), flags=re.MULTILINE))
    if not set(said) <= set(_NUMBER.findall(cited)):
        return "number_unknown"
    return None


def _to_draft(case: _Case, question: str, text: str, answer: Answer) -> Draft:
    cited = {int(mark) for mark in _MARK.findall(text)}
    return Draft(
        question,
        text,
        answer,
        tuple(seed.id for seed in case.styles),
        passages=case.sources,
        details={
            "is_answerable": case.is_answerable,
            "target": case.passages[case.target - 1].id,
            "passages": [
                {
                    "id": p.id,
                    "document": p.document,
                    "path": p.path,
                    "license": p.license,
                    "is_cited": number in cited,
                }
                for number, p in enumerate(case.passages, 1)
            ],
        },
    )
