"""Judge trained units on real bytes: python evaluate.py model=resnet50 split=layer3."""

from __future__ import annotations

from omegaconf import DictConfig

from bottlenecks.checkpoint import Ladder
from bottlenecks.cli import entry_point
from bottlenecks.codec import UnitCodec
from bottlenecks.errors import UsageError, check_number
from bottlenecks.evaluation.curve import Curve, rows_of
from bottlenecks.evaluation.plot import save_picture
from bottlenecks.evaluation.points import judge
from bottlenecks.experiment import folder_of, open_logger, pick_device, prepare
from bottlenecks.processes import is_main, join, leave, own_share
from bottlenecks.terminal import say, show
from bottlenecks.tracking import close, log_picture, log_table


def evaluate(cfg: DictConfig) -> Curve:
    """Measure every rate found for the configuration's model, split and data, and write the curve.

    Returns:
        The curve that was written.

    Raises:
        UsageError: there are no rates, or they are not for this network.
    """
    ladder = Ladder.load(folder_of(cfg))
    experiment = prepare(cfg, "test")
    ladder.check_network(experiment.network, experiment.backbone.fingerprint, experiment.backbone.source)
    check_number("timed_images", cfg.timed_images, 1, whole=True)
    experiment.results.mkdir(parents=True, exist_ok=True)  # told now rather than after all the work
    device = join(pick_device(cfg.device))
    world_size, num_pictures = own_share().world_size, len(experiment.datamodule.pictures("test"))
    if world_size > num_pictures:
        raise UsageError(f"{world_size} processes for {num_pictures} pictures; start fewer")
    codecs = [UnitCodec(rate) for rate in ladder.values()]
    for codec in codecs:
        codec.unit.to(device)
    judgement = judge(
        codecs,
        experiment.network.to(device),
        experiment.datamodule.test_dataloader(),
        experiment.task,
        device,
        cfg.timed_images,
    )
    name = experiment.backbone.spec.name
    curve = Curve.of(judgement, name, cfg.split, experiment.datamodule.name, experiment.task.metric_name)
    leave()
    if not is_main():
        return curve
    curve.write(experiment.results)
    save_picture(curve, experiment.results / "curve.png")
    show(curve.table())
    say(f"Wrote {experiment.results}/curve.json, curve.csv and curve.png")
    logger = open_logger(cfg, "evaluate", "evaluate", experiment.title)
    log_table(logger, "rate_accuracy", list(curve.points[0]), rows_of(curve.points))
    log_picture(logger, "curve", experiment.results / "curve.png")
    close(logger)
    return curve


@entry_point("evaluate")
def main(cfg: DictConfig) -> None:
    """Judge from the command line."""
    evaluate(cfg)


if __name__ == "__main__":
    main()
