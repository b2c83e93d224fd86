from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.imitation.architecture import Decoder, Shape  # noqa: E402
from models.imitation.batches import RowReader, attention_mask  # noqa: E402
from models.imitation.circuits import Tokens, set_circuits  # noqa: E402
from models.imitation.dataset import write  # noqa: E402
from models.imitation.errors import TrainingFailed  # noqa: E402
from models.imitation.muon import orthogonalise  # noqa: E402
from models.imitation.rows import RankedTask, RowBuilder, Variation  # noqa: E402
from models.imitation.tokenizer import BOS  # noqa: E402
from models.imitation.training import Plan, Run, load_decoder  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenizers import Tokenizer

SHAPE = Shape(vocab_size=384, width=64, num_layers=2, num_heads=4, num_kv_heads=2, hidden=64)
STEPS = 4


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, ranked: list[RankedTask]
) -> Path:
    path = tmp_path_factory.mktemp("rows")
    builder = RowBuilder(tokenizer, 512, random.Random(0), Variation(block_share=0.5))
    assert write(builder.rows(ranked * 6), path) > 3
    return path


@pytest.fixture
def make_run(folder: Path) -> Callable[[int], Run]:
    def make(seed: int) -> Run:
        plan = Plan(STEPS, rows_per_step=2, warmup_steps=2, seed=seed)
        return Run(Decoder(SHAPE, seed), plan, RowReader(folder, plan.rows_per_step, seed))

    return make


class TestRun:
    def test_resuming_equals_going_on(self, make_run: Callable[[int], Run], tmp_path: Path) -> None:
        through = make_run(0)
        expected = [through.advance() for _ in range(STEPS)]
        first = make_run(0)
        for _ in range(2):
            first.advance()
        first.save(tmp_path / "at2.pt")
        second = make_run(1)  # other weights, to be overwritten
        second.plan, second.reader = first.plan, first.reader
        second.load(tmp_path / "at2.pt")
        assert [second.advance() for _ in range(STEPS - 2)] == expected[2:]
        for one, two in zip(through.decoder.parameters(), second.decoder.parameters(), strict=True):
            assert torch.equal(one, two)

    def test_equal_seeds_give_equal_losses_and_others_do_not(
        self, make_run: Callable[[int], Run]
    ) -> None:
        one, two, other = make_run(3), make_run(3), make_run(4)
        losses = [run.advance() for run in (one, two, other)]
        assert losses[0] == losses[1]
        assert losses[0] != losses[2]

    def test_the_answer_loss_falls(self, folder: Path) -> None:
        run = Run(
            Decoder(SHAPE, 0), Plan(12, lr_embedding=0.02, warmup_steps=2), RowReader(folder, 2, 0)
        )
        losses = [run.advance()["answer"] for _ in range(12)]
        assert losses[-1] < losses[0] - 0.5

    def test_eight_examples_are_learned_by_heart(
        self, tokenizer: Tokenizer, ranked: list[RankedTask], tmp_path: Path
    ) -> None:
        plain = Variation(lost_gold_share=0, second_share=0, score_noise=0)
        rows = RowBuilder(tokenizer, 384, random.Random(0), plain).rows(ranked[:8])
        write(rows, tmp_path)
        # A start as small as this one learns at rates that a real run would not bear.
        plan = Plan(200, 8, lr_matrices=0.03, lr_circuits=0.03, lr_embedding=0.02, lr_norms=0.01)
        run = Run(Decoder(SHAPE, 0), plan, RowReader(tmp_path, 8, 0))
        loss = min(run.advance()["answer"] for _ in range(200))
        assert loss < 0.1

    def test_a_loss_that_is_no_number_ends_the_run(self, make_run: Callable[[int], Run]) -> None:
        run = make_run(0)
        with torch.no_grad():
            run.decoder.norm.weight.fill_(float("nan"))
        with pytest.raises(TrainingFailed, match="step 0"):
            run.advance()

    def test_a_checkpoint_holds_the_decoder(
        self, make_run: Callable[[int], Run], tmp_path: Path
    ) -> None:
        run = make_run(0)
        run.save(tmp_path / "new.pt")
        loaded = load_decoder(tmp_path / "new.pt")
        for one, two in zip(run.decoder.parameters(), loaded.parameters(), strict=True):
            assert torch.equal(one, two)


class TestRowReader:
    def test_every_row_is_read_once_an_epoch(self, folder: Path) -> None:
        reader = RowReader(folder, 2, 0)
        tokens = np.load(folder / "tokens.npy").astype(np.int64)
        rows = Counter(row.tobytes() for row in tokens)
        for epoch in range(2):
            seen = Counter(
                row.numpy().tobytes()
                for step in range(reader.num_steps)
                for row in reader.batch(epoch * reader.num_steps + step).tokens
            )
            assert seen.total() == 2 * reader.num_steps
            assert seen <= rows


class TestAttentionMask:
    def test_examples_do_not_see_each_other_nor_block_passages_their_neighbours(self) -> None:
        examples = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1]])
        passages = torch.tensor([[0, 1, 1, 2, 2, 0, 0, 0]])
        mask = attention_mask(examples, passages)[0, 0].int().tolist()
        assert mask == [
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0, 0, 0],
            [1, 0, 0, 1, 0, 0, 0, 0],
            [1, 0, 0, 1, 1, 0, 0, 0],
            [1, 1, 1, 1, 1, 1, 0, 0],
            [0, 0, 0, 0, 0, 0, 1, 0],
            [0, 0, 0, 0, 0, 0, 1, 1],
        ]

    def test_a_packed_example_is_computed_as_if_it_stood_alone(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        decoder = Decoder(SHAPE, 5)
        rows = list(RowBuilder(tokenizer, 900, random.Random(1)).rows(ranked[:4]))
        row = next(row for row in rows if (row.examples == 1).any())
        place = (row.examples == 1).nonzero()[0]

        def hidden(select: Any) -> Any:
            part = {
                name: torch.from_numpy(getattr(row, name)[select].astype("int64"))[None]
                for name in ("tokens", "positions", "examples", "passages")
            }
            mask = attention_mask(part["examples"], part["passages"])
            with torch.no_grad():
                out = decoder(part["tokens"], part["positions"], mask)[0]
            return out

        packed, alone = hidden(slice(None))[place], hidden(place)
        assert torch.allclose(packed, alone, atol=1e-5)


class TestCircuits:
    def test_circuits_continue_a_repeated_sequence_before_any_training(
        self, tokenizer: Tokenizer
    ) -> None:
        shape = Shape(vocab_size=384, width=256, num_layers=3, hidden=64)
        decoder = Decoder(shape, 0)
        set_circuits(decoder, Tokens.of(tokenizer))
        once = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:60] + 60
        tokens = torch.cat([torch.tensor([tokenizer.token_to_id(BOS)]), once, once])[None]
        length = tokens.shape[1]
        mask = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
        with torch.no_grad():
            logits = decoder.logits(decoder(tokens, torch.arange(length)[None], mask))[0]
        wanted = logits[62:-1].gather(1, tokens[0, 63:, None])
        ranks = (logits[62:-1] > wanted).sum(1).float()
        assert ranks.median() < 0.05 * shape.vocab_size  # by chance it would be half of it


class TestMuon:
    @pytest.mark.parametrize("shape", [(2, 16, 48), (1, 48, 16), (3, 32, 32)])
    def test_updates_become_nearly_orthogonal(self, shape: tuple[int, int, int]) -> None:
        updates = orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        singular = torch.linalg.svdvals(updates)
        assert singular.max() < 1.3
        assert singular.median() > 0.6
