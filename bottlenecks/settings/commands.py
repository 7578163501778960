"""What each command refuses before it begins: all that its configuration can tell, and what is plainly not there."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bottlenecks.errors import UsageError, check_flag, check_number
from bottlenecks.settings.data import kind_of
from bottlenecks.settings.evaluation import UNIT, EvaluationPlan, find_ladder
from bottlenecks.settings.experiment import check_experiment, check_network_and_data, plain
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.settings.rates import rates_asked
from bottlenecks.settings.target import Target
from bottlenecks.settings.targets import check_target
from bottlenecks.settings.training import BackboneTraining, TrainingPlan
from bottlenecks.settings.weights import TRAINED_ON_THE_SPOT, check_file, choose_weights


def check_training(cfg: DictConfig) -> None:
    """Refuse what `train.py` cannot use.

    Raises:
        UsageError: the configuration cannot be used.
    """
    if cfg.stage not in ("unit", "backbone"):
        raise UsageError(f"stage={cfg.stage}: expected unit or backbone")
    for name in ("overwrite", "resume"):
        check_flag(name, cfg[name])
    if cfg.stage == "backbone":
        BackboneTraining.of(cfg)
        spec, kind = check_network_and_data(cfg), kind_of(plain(cfg.data))
        if kind and kind.labels == "none":
            raise UsageError(f"stage=backbone: data={cfg.data.name} has no labels to train on")
        check_file(spec)
        check_factory(spec)
    else:
        spec = check_experiment(cfg)
        TrainingPlan.of(cfg)
        if not Target.of(cfg):
            rates_asked(cfg)
        check_weights(cfg, spec)


def check_evaluation(cfg: DictConfig) -> None:
    """Refuse what `evaluate.py` cannot use, rates that are not there among it.

    Raises:
        UsageError: the configuration cannot be used.
    """
    for single in each_split(cfg):
        spec, plan = check_experiment(single), EvaluationPlan.of(single)
        for name in plan.units:
            find_ladder(single, name)
        check_weights(single, spec)


def check_export(cfg: DictConfig) -> None:
    """Refuse what `export.py` cannot use, rates that are not there among it.

    Raises:
        UsageError: the configuration cannot be used.
    """
    spec = check_experiment(cfg)
    EvaluationPlan.of(cfg)
    find_ladder(cfg, UNIT)
    check_weights(cfg, spec)


def check_listing(cfg: DictConfig) -> BackboneSpec:
    """Refuse what `python -m bottlenecks.split` cannot use.

    Returns:
        The network that is named.

    Raises:
        UsageError: the configuration cannot be used.
    """
    check_number("image_size", cfg.image_size, 1, whole=True)
    spec = BackboneSpec.of(cfg.model)
    check_factory(spec)
    return spec


def each_split(cfg: DictConfig) -> list[DictConfig]:
    """Give a configuration for each split point that is named.

    Raises:
        UsageError: none is, or one twice.
    """
    if not OmegaConf.is_list(cfg.split):
        return [cfg]
    splits = [str(split) for split in cfg.split]
    if not splits or len(set(splits)) < len(splits):
        raise UsageError(f"split={splits}: expected one or several split points, each once")
    return [OmegaConf.merge(cfg, {"split": split}) for split in splits]


def check_weights(cfg: DictConfig, spec: BackboneSpec) -> None:
    """Refuse weights that are not there, or not for the data; and settings by which some would be trained now.

    Raises:
        UsageError: there are some.
    """
    kind, told = kind_of(plain(cfg.data)), spec.weights != "auto" or cfg.data.name in TRAINED_ON_THE_SPOT
    if kind and told and choose_weights(spec, cfg.data.name, kind.labels, Path(cfg.paths.checkpoints)) is None:
        BackboneTraining.of(cfg)
    check_factory(spec)


def check_factory(spec: BackboneSpec) -> None:
    """Refuse a network of the user's own whose module is not there.

    Raises:
        UsageError: it is not.
    """
    if spec.library == "custom" and spec.factory:
        check_target("model.factory._target_", str(spec.factory.get("_target_")))
