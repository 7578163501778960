"""What each command is to do, and refuses before it begins: by its configuration, and by what is plainly not there."""

from __future__ import annotations

from functools import cache

from omegaconf import DictConfig, OmegaConf

from bottlenecks.console.cli import CONFIGS
from bottlenecks.errors import UsageError, check_flag, check_known, check_number
from bottlenecks.settings.data import kind_of
from bottlenecks.settings.evaluation import UNIT, EvaluationPlan, find_ladder
from bottlenecks.settings.experiment import ExperimentPlan, NetworkPlan, UnitPlan
from bottlenecks.settings.export import ExportPlan
from bottlenecks.settings.model import AUTO, BackboneSpec, check_learnable
from bottlenecks.settings.targets import check_target
from bottlenecks.settings.training import TrainingPlan
from bottlenecks.settings.weights import TRAINED_ON_THE_SPOT, check_file, choose_weights

GROUPS = ("training", "loss", "target", "backbone", "paths")  # of settings, that no file of a name fills
NEEDED = ("model.library", "data.name", "data._target_", "unit.name", "unit.architecture")


def read_training(cfg: DictConfig) -> NetworkPlan | tuple[ExperimentPlan, TrainingPlan]:
    """Read what `train.py` is to do, and refuse what it cannot.

    Returns:
        The network to be trained; or the units.

    Raises:
        UsageError: the configuration cannot be used.
    """
    check_groups(cfg)
    if cfg.stage not in ("unit", "backbone"):
        raise UsageError(f"stage={cfg.stage}: expected unit or backbone")
    for name in ("overwrite", "resume"):
        check_flag(name, cfg[name])
    if cfg.stage == "backbone":
        network = NetworkPlan.of(cfg)
        check_learnable(network.model)
        kind = kind_of(network.data)
        if kind and kind.labels == "none":
            raise UsageError(f"stage=backbone: data={network.data_name} has no labels to train on")
        check_file(network.model)
        check_factory(network.model)
        return network
    experiment, plan = ExperimentPlan.of(cfg), TrainingPlan.of(cfg)
    if plan.loss["ce"] > 0:
        check_learnable(experiment.network.model, f"loss.ce={plan.loss['ce']}")
    check_hidden(experiment.unit, plan)
    check_weights(experiment.network)
    return experiment, plan


def read_evaluation(cfg: DictConfig) -> list[tuple[ExperimentPlan, EvaluationPlan]]:
    """Read what `evaluate.py` is to do at each split point, and refuse what it cannot, and rates that are not there.

    Raises:
        UsageError: the configuration cannot be used.
    """
    check_groups(cfg)
    found = []
    for single in each_split(cfg):
        experiment, plan = ExperimentPlan.of(single), EvaluationPlan.of(single)
        for name in plan.units:
            find_ladder(experiment, name)
        check_weights(experiment.network)
        found.append((experiment, plan))
    return found


def read_export(cfg: DictConfig) -> tuple[ExperimentPlan, EvaluationPlan, ExportPlan]:
    """Read what `export.py` is to do, and refuse what it cannot, and rates that are not there.

    Raises:
        UsageError: the configuration cannot be used.
    """
    check_groups(cfg)
    export = ExportPlan.of(cfg)
    here = OmegaConf.merge(cfg, {"device": "auto"}) if cfg.device == "int8" else cfg  # else where to measure
    experiment, plan = ExperimentPlan.of(cfg), EvaluationPlan.of(here)
    if list(plan.codecs) != [UNIT]:
        raise UsageError(f"codecs={list(plan.codecs)}: a bundle has the rates of one unit; name it by unit.name=NAME")
    find_ladder(experiment, UNIT)
    check_weights(experiment.network)
    return experiment, plan, export


def check_groups(cfg: DictConfig) -> None:
    """Refuse a value in the place of a group of settings, an unknown setting of it, and a group without what it needs.

    Raises:
        UsageError: there is one.
    """
    known = shipped_groups()
    for name in GROUPS:
        if name in cfg and not OmegaConf.is_dict(cfg[name]):
            raise UsageError(f"{name}={cfg[name]}: expected its settings one by one, as {name}.NAME=VALUE")
        if name in cfg:
            check_known(name, cfg[name], known[name])
    for name in NEEDED:
        group, _, key = name.partition(".")
        if group not in cfg or (OmegaConf.is_dict(cfg[group]) and key not in cfg[group]):
            raise UsageError(f"{name}: missing; leave ~{name} or ~{group} out, or give it as {name}=…")


@cache
def shipped_groups() -> dict[str, list[str]]:
    """Name the settings of each group that no file of a name fills."""
    shipped = OmegaConf.merge(*(OmegaConf.load(CONFIGS / f"{name}.yaml") for name in ("experiment", "train")))
    return {name: list(shipped[name]) for name in GROUPS}


def check_hidden(unit: UnitPlan, plan: TrainingPlan) -> None:
    """Refuse a hidden layer where none is learnt.

    Raises:
        UsageError: there is one.
    """
    hidden = unit.arguments.get("hidden")
    others = [name for name, weight in plan.loss.items() if weight and name != "kd"]
    if hidden and (unit.ranged or plan.target or not plan.epochs or others):
        raise UsageError(
            f"unit.hidden={hidden}: such an encoder is learnt by loss.kd alone, for a lambda, and before training; "
            "leave it out, or leave out unit.range, target, training.epochs=0 and other weights of the loss"
        )


def check_listing(cfg: DictConfig) -> BackboneSpec:
    """Refuse what `python -m bottlenecks.split` cannot use.

    Returns:
        The network that is named.

    Raises:
        UsageError: the configuration cannot be used.
    """
    if cfg.image_size is not None:
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


def check_weights(plan: NetworkPlan) -> None:
    """Refuse weights that are not there, or not for the data.

    Raises:
        UsageError: there are some.
    """
    kind, spec = kind_of(plan.data), plan.model
    told = spec.task != AUTO and (spec.weights != "auto" or plan.data_name in TRAINED_ON_THE_SPOT)
    if kind and told:
        choose_weights(spec, plan.data_name, kind.labels, plan.checkpoints)
    check_factory(spec)


def check_factory(spec: BackboneSpec) -> None:
    """Refuse a network of the user's own whose module is not there.

    Raises:
        UsageError: it is not.
    """
    if spec.library == "custom" and spec.factory:
        check_target("model.factory._target_", str(spec.factory.get("_target_")))
