from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from models.imitation.architecture import Decoder, Shape, tree_mask  # noqa: E402
from models.imitation.batches import RowReader  # noqa: E402
from models.imitation.circuits import Tokens, set_circuits  # noqa: E402
from models.imitation.dataset import Stage, write  # noqa: E402
from models.imitation.muon import orthogonalise  # noqa: E402
from models.imitation.rows import NO_PARENT, RowBuilder, ancestors  # noqa: E402
from models.imitation.tokenizer import ASSISTANT, BOS, control_id  # noqa: E402
from models.imitation.training import Plan, Run, load_decoder  # noqa: E402

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from models.imitation.examples import Example

SHAPE = Shape(vocab_size=384, width=64, num_layers=2, num_heads=4, num_kv_heads=2, hidden=64)
STEPS = 4


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, examples: list[Example]
) -> Path:
    path = tmp_path_factory.mktemp("rows")
    builder = RowBuilder(tokenizer, 512, random.Random(0))
    assert write(builder.rows(examples * 6, 2), Stage("s", 512, 50, 2, 2), path) > 3
    return path


@pytest.fixture
def make_run(folder: Path, tokenizer: Tokenizer) -> object:
    def make(seed: int = 0) -> Run:
        plan = Plan((("s", STEPS),), tokens_per_step=512, warmup_steps=2, seed=seed)
        reader = RowReader(folder, plan.tokens_per_step, seed, control_id(tokenizer, ASSISTANT))
        return Run(Decoder(SHAPE, seed), plan, [reader], Tokens.of(tokenizer))

    return make


class TestRun:
    def test_resuming_equals_going_on(self, make_run: object, tmp_path: Path) -> None:
        assert callable(make_run)
        through = make_run()
        expected = [through.advance() for _ in range(STEPS)]
        first = make_run()
        for _ in range(2):
            first.advance()
        first.save(tmp_path / "at2.pt")
        second = make_run(1)  # other weights, to be overwritten
        second.plan, second._readers = first.plan, first._readers
        second.load(tmp_path / "at2.pt")
        assert [second.advance() for _ in range(STEPS - 2)] == expected[2:]
        for one, two in zip(through.decoder.parameters(), second.decoder.parameters(), strict=True):
            assert torch.equal(one, two)

    def test_equal_seeds_give_equal_losses_and_others_do_not(self, make_run: object) -> None:
        assert callable(make_run)
        one, two, other = make_run(3), make_run(3), make_run(4)
        losses = [run.advance() for run in (one, two, other)]
        assert losses[0] == losses[1]
        assert losses[0] != losses[2]

    def test_the_answer_loss_falls(self, make_run: object) -> None:
        assert callable(make_run)
        run = make_run()
        losses = [run.advance()["answer"] for _ in range(STEPS)]
        assert losses[-1] < losses[0] - 0.2

    def test_a_checkpoint_holds_the_decoder(self, make_run: object, tmp_path: Path) -> None:
        assert callable(make_run)
        run = make_run()
        run.save(tmp_path / "new.pt")
        loaded = load_decoder(tmp_path / "new.pt")
        for one, two in zip(run.decoder.parameters(), loaded.parameters(), strict=True):
            assert torch.equal(one, two)


class TestDecoder:
    def test_a_leaf_in_a_tree_equals_the_leaf_in_a_line(self) -> None:
        """The point of rows as trees: candidates side by side change nothing for each other."""
        decoder = Decoder(SHAPE, 5)
        tokens = torch.randint(16, 384, (1, 12), generator=torch.Generator().manual_seed(0))
        segments = torch.tensor([[0] * 5 + [1] * 3 + [2] * 4])
        positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8]])
        import numpy as np

        seen = torch.from_numpy(ancestors(np.array([[NO_PARENT, 0, 0]], np.uint8)))
        tree = decoder(tokens, positions, tree_mask(segments, seen))
        line = torch.cat([tokens[:, :5], tokens[:, 8:]], dim=1)
        causal = torch.ones(1, 1, 9, 9, dtype=torch.bool).tril()
        alone = decoder(line, torch.arange(9)[None], causal)
        assert torch.allclose(tree[:, 8:], alone[:, 5:], atol=1e-5)

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
