"""The order of training depends on seed and epoch alone, through Lightning too."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from bottlenecks.training.sampler import EpochSampler


class Recorder(pl.LightningModule):
    """Notes the indices of each epoch's batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {}

    def training_step(self, batch):
        self.seen.setdefault(self.current_epoch, []).append(batch.tolist())
        return 0 * self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Keys:
    """Returns back the index of each key."""

    def __getitem__(self, key):
        return key[1]

    def __len__(self):
        return 10


def order_of(epoch: int, seed: int = 0) -> list[tuple[int, int]]:
    sampler = EpochSampler(10, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_each_epoch_is_another_permutation():
    assert [sorted(index for _, index in order_of(epoch)) for epoch in range(3)] == [list(range(10))] * 3
    assert [epoch for epoch, _ in order_of(2)] == [2] * 10
    orders = {tuple(index for _, index in order_of(*key)) for key in ((0, 0), (1, 0), (0, 1))}
    assert len(orders) == 3


def test_an_epoch_does_not_depend_on_those_before():
    sampler = EpochSampler(10, seed=4)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        order = list(sampler)
    assert order == order_of(3, seed=4)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning 2.6 with PyTorch 2.14
def test_lightning_sets_the_epoch_and_a_resumed_run_sees_the_same_order(tmp_path):
    def fit(epochs: int, checkpoint: str | None = None) -> Recorder:
        module = Recorder()
        loader = DataLoader(Keys(), batch_size=4, sampler=EpochSampler(10, seed=1))
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            max_epochs=epochs, accelerator="cpu", enable_checkpointing=False, log_every_n_steps=1, **quiet
        )
        trainer.fit(module, loader, ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return module

    whole = fit(4)
    fit(2)
    resumed = fit(4, str(tmp_path / "2.ckpt"))
    assert list(resumed.seen) == [2, 3]
    assert all(resumed.seen[epoch] == whole.seen[epoch] for epoch in (2, 3))
    assert [index for batch in whole.seen[3] for index in batch] == [index for _, index in order_of(3, seed=1)]
