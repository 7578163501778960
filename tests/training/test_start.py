"""Where units begin: within the caps, as settings say, the same again, and kept beside the state of the run."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from bottlenecks.backbones.backbone import freeze
from bottlenecks.errors import UsageError
from bottlenecks.splitting.cut import SplitNetwork, cut
from bottlenecks.splitting.features import cat
from bottlenecks.splitting.macs import count_macs
from bottlenecks.tasks import Classification
from bottlenecks.training import nonlinear
from bottlenecks.training.any_rate import FITTED, Measured
from bottlenecks.training.calibration import statistics_of
from bottlenecks.training.candidates import (
    ALWAYS_BYTES,
    ALWAYS_MACS,
    MOST_RANK,
    RESTORER_WIDTH,
    RESTORER_WIDTH_FEW,
    TransformSettings,
    list_candidates,
    restorer_widths,
)
from bottlenecks.training.frozen import FrozenBatch, pass_frozen
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.seeds import generator_for
from bottlenecks.training.start import DEAD_ZONE, Start, find_starts, smallest_losses, worth_trying
from bottlenecks.training.start_file import StartFile
from bottlenecks.training.structure import Candidate, Trial
from bottlenecks.units import TransformUnit
from tests.networks import Tiny, TinySegmenter

DEFAULTS = {"max_bytes": 0.01, "max_macs": 0.03}


def settings_of(**given: Any) -> TransformSettings:
    return TransformSettings.of({**DEFAULTS, **given})


def resnet() -> nn.Module:
    return models.resnet18(weights=None)


CUTS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "wide": (resnet, "layer4", 224),
    "middle": (resnet, "layer3", 224),
    "early": (resnet, "layer1", 64),
    "tiny": (Tiny, "body", 32),
    "two tensors": (TinySegmenter, "top", 128),
}


@lru_cache
def split(name: str) -> SplitNetwork:
    """Cut a network of `CUTS`, with random weights."""
    make, at, size = CUTS[name]
    torch.manual_seed(0)
    return cut(freeze(make().eval()), at, torch.zeros(1, 3, size, size), several=True)


def unit_of(network: SplitNetwork, candidate: Candidate) -> TransformUnit:
    parts = [
        {
            "feature_shape": tensor.shape, "structure": candidate.structure, "rank": rank, "block": block,
            "restorer": 0, "nonnegative": True, "rounding": candidate.rounding,
        }
        for tensor, rank, block in zip(network.crossing, candidate.ranks, candidate.blocks, strict=True)
    ]  # fmt: skip
    return TransformUnit(parts).eval()


CAPS = [
    pytest.param({}, marks=pytest.mark.slow),
    {"max_bytes": 0.002},
    {"max_macs": 0.004},
    pytest.param({"max_bytes": 0.1, "max_macs": 0.2}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("caps", CAPS)
def test_every_candidate_is_within_the_caps(name: str, caps: dict[str, float]) -> None:
    network, image = split(name), torch.zeros(1, 3, CUTS[name][2], CUTS[name][2])
    settings = settings_of(**caps)
    candidates = list_candidates(network, settings, image.shape[1:])
    assert candidates and candidates[0].structure == "separable"
    most_bytes = max(ALWAYS_BYTES, settings.max_bytes * 4 * sum(own.numel() for own in network.parameters()))
    most_macs = max(ALWAYS_MACS, settings.max_macs * count_macs(network.head, image))
    for candidate in candidates:
        unit = unit_of(network, candidate)
        num_bytes = 2 * sum(own.numel() for own in unit.parameters())
        assert num_bytes <= 1.02 * most_bytes + 2000, candidate  # offsets are kept in single precision
        features = [torch.zeros(1, *tensor.shape) for tensor in network.crossing]
        macs = sum(count_macs(part.transform.project, one) for part, one in zip(unit.parts, features, strict=True))
        if candidate.structure == "separable":
            shapes = zip(candidate.ranks, [tensor.shape for tensor in network.crossing], strict=True)
            macs += sum(rank * h * w * (h + w) for rank, (_, h, w) in shapes)  # the block transforms, as matrices
        assert macs <= 1.02 * most_macs or set(candidate.ranks) == {1}, candidate


def test_larger_caps_leave_more_channels() -> None:
    network = split("middle")
    small, large = (
        list_candidates(network, settings_of(max_bytes=share, max_macs=1.0), (3, 224, 224)) for share in (0.002, 0.05)
    )
    assert small[0].ranks < large[0].ranks == (256,)
    joint = [{one.blocks: one.ranks for one in own if one.structure == "joint"} for own in (small, large)]
    assert joint[0].keys() <= joint[1].keys() and all(joint[0][own] <= joint[1][own] for own in joint[0])
    assert ((14, 14),) in joint[1]  # the whole map


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"structure": "joint"}, {("joint", 15, (8, 8), 0.5), ("joint", 63, (4, 4), 0.5)}),
        ({"structure": "joint", "block": 2}, {("joint", 64, (2, 2), 0.5)}),
        ({"structure": "joint", "hidden": 8}, {("joint", 15, (8, 8), 0.5)}),
        ({"structure": "joint", "rank": 3}, {("joint", 3, (8, 8), 0.5), ("joint", 3, (4, 4), 0.5)}),
        ({"structure": "separable", "block": 4}, {("separable", 16, (4, 4), 0.5)}),
        ({"block": 3}, {("separable", 16, (3, 3), 0.5)}),
        ({"structure": "separable", "rank": 5, "rounding": 0.3}, {
            ("separable", 5, (side, side), 0.3) for side in (1, 4, 8)
        }),
        ({"rounding": 0.25, "rank": 7, "block": 100}, {
            (structure, 7, (8, 8), 0.25) for structure in ("separable", "joint")
        }),
    ],
)  # fmt: skip
def test_settings_override_what_would_be_tried(given: dict[str, Any], expected: set[tuple[object, ...]]) -> None:
    found = list_candidates(split("tiny"), settings_of(**given), (3, 32, 32))
    assert {(one.structure, *one.ranks, *one.blocks, one.rounding) for one in found} == expected


def test_a_given_rank_is_taken_whatever_the_caps() -> None:
    network = split("middle")
    (found,) = list_candidates(network, settings_of(rank=200, block=7, max_bytes=0.0, max_macs=0.0), (3, 224, 224))
    assert found.ranks == (200,)


def test_a_joint_transform_that_is_too_large_is_refused_by_name() -> None:
    network = split("middle")
    caps = {"max_bytes": 0.0, "max_macs": 0.0}
    with pytest.raises(
        UsageError, match=r"unit.structure=joint: one projection alone is larger than unit.max_bytes or"
    ):
        list_candidates(network, settings_of(structure="joint", **caps), (3, 224, 224))
    assert {one.structure for one in list_candidates(network, settings_of(**caps), (3, 224, 224))} == {"separable"}


def test_blocks_that_do_not_fill_the_features_are_refused_where_they_have_to() -> None:
    with pytest.raises(
        UsageError, match=r"unit.block=3: blocks of a joint transform .* the features, which are 8x8; give"
    ):
        list_candidates(split("tiny"), settings_of(structure="joint", block=3), (3, 32, 32))
    (found,) = list_candidates(split("tiny"), settings_of(block=3), (3, 32, 32))
    assert found.structure == "separable"


@pytest.mark.parametrize(("given", "expected"), [(None, RESTORER_WIDTH), (0, 0), (24, 24)])
def test_the_restoring_network_has_the_width_that_is_given(given: int | None, expected: int) -> None:
    assert restorer_widths(split("middle"), settings_of(restorer=given)) == [expected]


def test_few_channels_have_a_narrower_restoring_network() -> None:
    assert restorer_widths(split("two tensors"), settings_of()) == 2 * [RESTORER_WIDTH_FEW]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"structure": "diagonal"}, r"unit.structure=diagonal: expected separable, joint, or null"),
        ({"rank": 0}, r"unit.rank=0: expected a whole number of at least 1"),
        ({"block": 2.5}, r"unit.block=2.5: expected a whole number"),
        ({"restorer": -1}, r"unit.restorer=-1: expected a whole number of at least 0"),
        ({"rounding": 0.0}, r"unit.rounding=0.0: expected a number above 0, and 0.5 at the most"),
        ({"max_bytes": -1}, r"unit.max_bytes=-1: expected a number of at least 0"),
        ({"hidden": -1}, r"unit.hidden=-1: expected a whole number of at least 0"),
        ({"structure": "separable", "hidden": 8}, r"unit.hidden=8: a hidden layer needs unit.structure=joint"),
        (
            {"structure": "joint", "hidden": 8, "block": 4},
            r"unit.block=4: a hidden layer takes whole maps; leave it out",
        ),
        ({"structure": "joint", "rank": 100}, r"unit.rank=100: a joint transform has 64 channels at the most"),
        ({"latent_channels": 8}, r"unit.latent_channels: no such setting of this unit; there are structure, block"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings_of(**given)


def frozen_of(network: SplitNetwork, batch: int, count: int = 48) -> FrozenBatch:
    """What the frozen network makes of some images, so many at once."""
    images = torch.rand(count, 3, 32, 32, generator=generator_for("images"))
    parts = [pass_frozen(network, one, torch.zeros(len(one), dtype=torch.long)) for one in images.split(batch)]
    return FrozenBatch(*cat([part[:3] for part in parts]), 32 * 32)


def sharp() -> SplitNetwork:
    """A network whose output varies with the image."""
    network = copy.deepcopy(split("tiny"))
    for name, own in network.named_parameters():
        if name.endswith("weight") and own.dim() > 1:
            own.data.mul_(3)
    return network


def starts_of(
    lmbdas: list[float], batch: int = 16, seed: int = 0, restorer: int | None = 8, ease: float = 1.0, **given: Any
) -> dict[Any, Start]:
    network, settings = sharp(), settings_of(restorer=restorer, **given)
    frozen = frozen_of(network, batch)
    statistics = statistics_of(frozen.features)
    loss = RateDistortionLoss(Classification(), {"kd": 1.0}, [own.variance for own in statistics])
    parts = (network, Classification(), loss, frozen, statistics, lmbdas, settings, (3, 32, 32), seed)
    return find_starts(*parts, ease=ease)


def same(one: Start, two: Start, exactly: bool) -> bool:
    states = [(own, two.state[name]) for name, own in one.state.items()]
    return one.config == two.config and all(
        torch.equal(*pair) if exactly else torch.allclose(*pair, rtol=1e-4, atol=1e-5) for pair in states
    )


def test_a_start_is_the_same_again_whatever_was_drawn_before() -> None:
    first = starts_of([1.0])[1.0]
    torch.rand(7)
    assert same(starts_of([1.0])[1.0], first, exactly=True)
    assert not same(starts_of([1.0], seed=1)[1.0], first, exactly=True)


@pytest.mark.slow
def test_a_start_does_not_depend_on_the_batches_that_images_come_in() -> None:
    one, two = (starts_of([1.0], batch=batch)[1.0] for batch in (5, 48))
    assert same(one, two, exactly=False)
    assert one.structure == two.structure and one.step == pytest.approx(two.step, rel=1e-4)


def test_a_ladder_is_spread_over_rates_before_training() -> None:
    starts = starts_of([1.0, 0.03, 0.1])
    assert [*starts] == [1.0, 0.03, 0.1]
    for coarse, fine in ((0.03, 0.1), (0.1, 1.0)):
        assert starts[coarse].step > 1.5 * starts[fine].step
        assert starts[coarse].expected_bytes < 0.5 * starts[fine].expected_bytes
        assert starts[coarse].expected_distortion > starts[fine].expected_distortion


def test_a_start_has_what_is_given() -> None:
    given = {"structure": "separable", "block": 4, "rank": 6, "rounding": 0.3, "restorer": 12}
    (part,) = starts_of([1.0], **given)[1.0].config["parts"]
    assert (part["structure"], part["block"], part["rank"]) == ("separable", [4, 4], 6)
    assert (part["rounding"], part["restorer"]) == (0.3, 12)


@pytest.mark.slow
def test_an_encoder_is_nonlinear_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonlinear, "STEPS", 20)
    starts = starts_of([0.1, 1.0], ease=3.0, structure="joint", hidden=8)
    assert [start.config["parts"][0]["hidden"] for start in starts.values()] == [8, 8]
    assert "8 hidden channels" in starts[1.0].structure
    (ranged,) = starts_of([(0.1, 1.0)], ease=3.0, structure="joint", hidden=8).values()
    unit = TransformUnit(**ranged.config)
    unit.load_state_dict(ranged.state)
    assert unit.parts[0].hidden is not None and unit.range is not None and str(unit.range) == "0.1..1.0"
    assert len(ranged.measured) == FITTED
    linear = starts_of([1.0], ease=3.0, structure="joint")[1.0]  # of so few images none is learnt
    assert "hidden" not in linear.config["parts"][0]


def test_a_nonlinear_encoder_needs_training() -> None:
    with pytest.raises(UsageError, match=r"unit.hidden=8: such an encoder is learnt by loss.kd alone, of classifiers"):
        starts_of([1.0], structure="joint", hidden=8)


def test_what_is_not_given_is_measured() -> None:
    (part,) = starts_of([1.0], restorer=None)[1.0].config["parts"]
    assert part["rounding"] in (0.5, DEAD_ZONE) and part["structure"] in ("joint", "separable")
    assert part["restorer"] == RESTORER_WIDTH_FEW and 0 < part["rank"] <= MOST_RANK
    losses = {
        name: start.expected_distortion + 8 * start.expected_bytes / 1024
        for name in ("joint", "separable")
        for start in [starts_of([1.0], structure=name, restorer=None)[1.0]]
    }
    assert part["structure"] == min(losses, key=lambda name: losses[name])


def start_of(value: float) -> Start:
    return Start({"parts": []}, {"weight": torch.tensor([value])}, "joint", 1.0, 2.0, value, [Measured(0.0, 2.0, 0.1)])


def keep(folder: Path, starts: dict[Any, Start], seed: int = 0, resuming: bool = False) -> dict[Any, Start]:
    file = StartFile(folder / "lambda=0.01.ckpt", {"seed": seed}, {"images": "digits"}, resuming)
    return file.obtain(lambda: starts)


def test_a_resumed_run_goes_on_from_the_start_that_it_had(tmp_path: Path) -> None:
    keep(tmp_path, {0.01: start_of(1.0)})
    (found,) = keep(tmp_path, {0.01: start_of(2.0)}, resuming=True).values()
    assert found.state["weight"].tolist() == [1.0] and found.structure == "joint" and found.step == 1.0


def test_a_start_of_other_settings_is_made_anew(tmp_path: Path) -> None:
    keep(tmp_path, {0.01: start_of(1.0)})
    assert keep(tmp_path, {0.01: start_of(2.0)}, seed=1)[0.01].step == 2.0


def test_a_damaged_start_ends_a_resumed_run_and_no_other(tmp_path: Path) -> None:
    keep(tmp_path, {0.01: start_of(1.0)})
    path = tmp_path / "lambda=0.01.start"
    whole = path.read_bytes()
    for damaged in (whole[:100], b"", b"rubbish"):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"lambda=0.01.start is damaged .*start anew with overwrite=true"):
            keep(tmp_path, {0.01: start_of(2.0)}, resuming=True)
        assert path.read_bytes() == damaged
    assert keep(tmp_path, {0.01: start_of(3.0)})[0.01].step == 3.0
    assert keep(tmp_path, {0.01: start_of(4.0)}, resuming=True)[0.01].step == 3.0


def test_a_start_file_holds_no_code(tmp_path: Path) -> None:
    keep(tmp_path, {0.01: start_of(1.0), (0.003, 0.03): start_of(2.0)})
    content = torch.load(io.BytesIO((tmp_path / "lambda=0.01.start").read_bytes()), weights_only=True)
    assert set(content["starts"]) == {0.01, (0.003, 0.03)}


class Parabola(Trial):
    """A trial whose loss at lambda 1 is a parabola over the place, with this lowest point."""

    def __init__(self, place: float, lowest: float) -> None:
        super().__init__(Candidate("joint", (1,), ((1, 1),)), [], lambda *_: torch.zeros(1), 1024)
        self.place, self.lowest = place, lowest

    def measure(self, place: int) -> tuple[float, float]:
        return self.measured.setdefault(place, (self.lowest + 0.01 * (place - self.place) ** 2, 0.0))


def test_a_structure_far_behind_is_measured_once() -> None:
    first, better, near, far = Parabola(3, 1), Parabola(4, 0.8), Parabola(1, 0.75), Parabola(4, 1.2)
    losses = smallest_losses([first, better, near, far], 3.0, ease=3.0)
    assert losses == {first: 1, better: 0.8, near: 0.75, far: pytest.approx(1.29)}
    assert len(far.measured) == 1 and all(len(one.measured) >= 3 for one in (first, better, near))


class Line(Trial):
    """A trial that takes these bits, and loses this much, whatever its step."""

    def __init__(self, bpp: float, distortion: float) -> None:
        super().__init__(Candidate("joint", (1,), ((1, 1),)), [], lambda *_: torch.zeros(1), 1024)
        self.points = distortion, bpp

    def measure(self, place: int) -> tuple[float, float]:
        return self.measured.setdefault(place, self.points)


def test_a_structure_that_is_best_at_one_end_alone_is_worth_trying() -> None:
    coarse, middle, fine, nowhere = Line(0.1, 50), Line(1, 10), Line(3, 1), Line(3, 10)
    trials = [coarse, middle, fine, nowhere]
    assert worth_trying(trials, [0.1, 0.001, 10.0], ease=1.0) == (middle, [coarse, middle, fine])
    assert worth_trying(trials, [0.1], ease=1.0) == (middle, [middle])
    assert worth_trying(trials, [3.0], ease=3000.0) == (coarse, [coarse])
