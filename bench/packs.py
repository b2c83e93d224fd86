"""The written conversations as questions, a collection for each organisation's documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.imitation.conversations import Conversation
from models.imitation.dataset import is_kept_back
from models.imitation.packs import CITATION, SOURCE, read_packs
from models.imitation.tasks import Task
from models.imitation.tokenizer import REFUSAL
from models.protocols import Message


@dataclass(frozen=True)
class Asked:
    """A question over one collection; `said` are the pieces of the written answer, without marks.

    A piece is what stands before a citation; a refusal has none, though it may cite what comes
    nearest. `cited` are the files of the passages cited, relative to the folder of all
    organisations.
    """

    collection: str
    messages: list[Message]
    said: tuple[str, ...]
    cited: tuple[str, ...] = ()

    @property
    def is_answerable(self) -> bool:
        """Whether the written answer answers from the passages."""
        return bool(self.said)


def is_pack_kept_back(pack: str) -> bool:
    """Whether an organisation's conversations serve calibration and not training."""
    return is_kept_back(Task(SOURCE, pack, (), (), "", (), may_lose_gold=False))


def write_packs(folder: Path, is_wanted: Callable[[str], bool]) -> Iterator[Asked]:
    """Write the wanted organisations' passages as files, one folder each; yield their questions.

    Turns that ask nothing of the documents, such as thanks, are none.
    """
    packs: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in read_packs():
        name = conversation.id.rsplit("-c", 1)[0]
        if is_wanted(name):
            packs[name].append(conversation)
    for name, conversations in packs.items():
        target = folder / name
        target.mkdir(parents=True)
        paths: dict[str, str] = {}
        for number, passage in enumerate(conversations[0].passages):
            file, _, heading = passage.title.partition(" > ")
            stem = file.rsplit(".", 1)[0].replace("/", "-")
            text = f"# {heading}\n\n{passage.text}\n" if heading else f"{passage.text}\n"
            paths[passage.id] = f"{name}/{number}-{stem}.md"
            (folder / paths[passage.id]).write_text(text, encoding="utf-8")
        for conversation in conversations:
            history: list[Message] = []
            for turn in conversation.turns:
                is_refusal = turn.content.startswith(REFUSAL)
                cited = dict.fromkeys(paths[id_] for id_ in CITATION.findall(turn.content))
                if turn.role == "assistant" and (cited or is_refusal):
                    said = () if is_refusal else _cut(turn.content)
                    yield Asked(name, list(history), said, tuple(cited))
                history.append(Message(turn.role, CITATION.sub("", turn.content).strip()))


def _cut(answer: str) -> tuple[str, ...]:
    parts = CITATION.split(answer)
    # Every second part is a passage's name; what follows the last one is cited by nothing.
    return tuple(part.strip() for part in parts[:-1:2] if part.strip())
