"""The seeds that come with Mynah, and the files of others."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from models.imitation.collecting import prompts
from models.imitation.collecting.grounded import check_answer
from models.imitation.collecting.screening import ALPACA_WORDS, InstructionScreen
from models.imitation.collecting.seeds import (
    BROAD_SEEDS,
    GROUNDED_SEEDS,
    Seed,
    read_one_task,
    read_seeds,
)
from models.imitation.conversations import SourcePassage
from models.imitation.errors import TrainingDataInvalid
from models.imitation.tokenizer import REFUSAL


def test_the_broad_seeds_are_175_and_26_of_them_classifications() -> None:
    seeds = read_seeds(BROAD_SEEDS, at_least=175).seeds
    assert len(seeds) == 175
    assert sum(seed.is_classification for seed in seeds) == 26
    assert 60 < sum(not seed.input for seed in seeds) < 115


def test_the_broad_seeds_pass_the_filters_and_are_unlike_each_other() -> None:
    screen = InstructionScreen([], ALPACA_WORDS)
    refused = {
        seed.id: screen.refuse(seed.instruction)
        for seed in read_seeds(BROAD_SEEDS, at_least=175).seeds
    }
    assert {id_: reason for id_, reason in refused.items() if reason} == {}


def test_the_grounded_seeds_answer_as_the_mode_demands() -> None:
    seeds = read_one_task(GROUNDED_SEEDS, at_least=12).seeds
    refusing = [seed for seed in seeds if seed.output.startswith(REFUSAL)]
    assert 0.25 < len(refusing) / len(seeds) < 0.35
    for seed in seeds:
        passages = re.split(r"\n\n(?=\[\d+\] )", seed.input)
        cited = [int(mark) for mark in re.findall(r"\[(\d+)\]", seed.output)]
        is_answerable = seed not in refusing
        target = cited[0] if cited else 1
        reason = check_answer(seed.output, passages, target, is_answerable=is_answerable)
        assert (seed.id, reason) == (seed.id, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"instruction": "a"}', "line 1: output is missing"),
        ('\n{"output": "a"}', "line 2: instruction is missing"),
        ("{", "line 1: "),
        ("[]", "line 1: not a JSON object"),
        ('{"instruction": "a", "output": 3}', "output is no text"),
        ('{"instruction": "a", "output": "b", "classification": "no"}', "neither true nor"),
        ('{"id": "x", "instruction": "a", "output": "b"}\n' * 2, "line 2: the id 'x'"),
        ('{"instruction": "a", "output": "b"}', "has 1 seeds; this mode needs 2"),
    ],
)
def test_a_malformed_seed_is_named(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text(text)
    with pytest.raises(TrainingDataInvalid) as refused:
        read_seeds(path, at_least=2)
    assert told in refused.value.message
    assert str(path) in refused.value.message


def test_a_narrow_set_is_of_one_task(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    row = '{{"instruction": "i{0}", "output": "o", "task": "{1}"}}\n'
    path.write_text("".join(row.format(number, "abc"[number % 3]) for number in range(9)))
    with pytest.raises(TrainingDataInvalid, match=r"several tasks \(a, b, c\)"):
        read_one_task(path, at_least=3)
    found = read_one_task(path, at_least=3, task="b")
    assert [seed.instruction for seed in found.seeds] == ["i1", "i4", "i7"]
    with pytest.raises(TrainingDataInvalid, match="no task 'd'; there are: a, b, c"):
        read_one_task(path, at_least=3, task="d")
    with pytest.raises(TrainingDataInvalid, match="no file of seeds"):
        read_one_task(tmp_path / "none", at_least=3)


def test_a_changed_prompt_has_a_new_version() -> None:
    """Rows name the version, so one version is one text: raise it with the hash."""
    seeds = [Seed(str(n), f"instruction {n}:", "" if n else "input", "output") for n in range(3)]
    passages = [SourcePassage("1", "a > b", "text"), SourcePassage("2", "c", "other")]
    texts = {
        prompts.SELF_INSTRUCT_VERSION: [
            prompts.list_instructions([seed.instruction for seed in seeds]),
            prompts.ask_classification("an {instruction} x"),
            prompts.ask_output_first("an instruction"),
            prompts.ask_input_first("an instruction"),
        ],
        prompts.ALPACA_VERSION: [prompts.list_tasks(seeds)],
        prompts.NARROW_VERSION: [
            prompts.list_examples(seeds, 5, None),
            prompts.list_examples(seeds, 5, "about"),
        ],
        prompts.GROUNDED_VERSION: [
            prompts.ask_grounded(passages, 2, seeds, is_answerable=is_answerable)
            for is_answerable in (True, False)
        ],
    }
    hashes = {
        version: hashlib.sha256("\0".join(said).encode()).hexdigest()[:12]
        for version, said in texts.items()
    }
    assert hashes == {
        "self-instruct/1": "cf371bc42ef5",
        "alpaca/1": "9db577bba6d3",
        "narrow/1": "e1fdcb44a0f3",
        "grounded/1": "1c60a982a725",
    }
