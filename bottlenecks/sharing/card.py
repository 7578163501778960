"""The card of a shared ladder: what it is, what it was measured at, how to use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from bottlenecks.evaluation.curve import Curve
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.manifest import CURVE, FIGURE, MANIFEST
from bottlenecks.settings.evaluation import UNIT
from bottlenecks.settings.model import GIVEN, BackboneSpec, is_file
from bottlenecks.shapes import flat

KINDS = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "detection": "object-detection",
    "embedding": "image-feature-extraction",
}  # of tasks, as the hub calls them
TAGS = ("bottlenecks", "split-computing", "feature-compression")
Point = Mapping[str, Any]


def card(
    info: RateInfo, sizes: Mapping[str, int], curve: Curve | None, place: str, licence: str | None, figure: bool
) -> str:
    """Write the card.

    Args:
        info: of one of the rates.
        sizes: bytes of each rate's file, by its name.
        curve: of the rates, None where they were not evaluated.
        place: what `load` is given.
        licence: its identifier, None where none is stated.
        figure: whether a drawing of the curve comes along.
    """
    spec = BackboneSpec.read(info.backbone, "the rates")
    points = [] if curve is None else unit_points(curve, info)
    parts = [
        f"---\n{OmegaConf.to_yaml(OmegaConf.create(front_matter(info, spec, curve, points, licence)))}---",
        f"# Units for {info.model} at {info.split}",
        f"A ladder of rates for the library `bottlenecks`: small encoders and decoders for what crosses `{info.split}` "
        f"of a frozen {info.model} that is cut in two there. A device runs the first part and sends a few bytes, a "
        "server runs the rest. The network's own weights are not in here.",
        _table(["", ""], about(info, spec, licence)),
        "## Figures",
        *(["These rates come without a curve."] if curve is None else figures(curve, points, figure)),
        "## Files",
        _table(["file", "kB"], [[f"`{name}`", f"{size / 1000:,.1f}"] for name, size in sizes.items()], "-:"),
        f"`{MANIFEST}` has the SHA-256 of each file. Loading compares them, and runs no code from here.",
        "## How to use it",
        *usage(info, spec, place),
    ]
    return "\n\n".join(parts) + "\n"


def unit_points(curve: Curve, info: RateInfo) -> list[Point]:
    """Return the points of the rates themselves; a curve may have other codecs and units beside them."""
    codec = UNIT if UNIT in curve.codecs else info.unit_name
    return [point for point in curve.points if point["codec"] == codec]


def front_matter(
    info: RateInfo, spec: BackboneSpec, curve: Curve | None, points: Sequence[Point], licence: str | None
) -> dict[str, Any]:
    """Return what the hub reads of a card."""
    known: dict[str, Any] = {"library_name": "bottlenecks"}
    if licence is not None:
        known["license"] = licence
    known |= {"pipeline_tag": KINDS[spec.task], "tags": [*TAGS, info.model]}
    if curve is None or curve.unsplit is None:
        return known
    metrics = [
        {
            "type": curve.metric,
            "value": round(point[curve.metric], 4),
            "name": f"{curve.metric} at {point['payload_bytes']:.1f} bytes an image, {point['setting']}",
        }
        for point in points
    ]
    task, dataset = {"type": KINDS[spec.task]}, {"name": curve.data, "type": curve.data}
    results = [{"task": task, "dataset": dataset, "metrics": metrics}]
    name = f"{info.model} at {info.split}"
    return {**known, "metrics": [curve.metric], "model-index": [{"name": name, "results": results}]}


def about(info: RateInfo, spec: BackboneSpec, licence: str | None) -> list[list[str]]:
    """Return the rows that say what the ladder is for."""
    source = spec.factory["_target_"] if spec.factory else spec.architecture or spec.name
    built = "a module that is handed over" if spec.library == GIVEN else f"{spec.library} `{source}`"
    weights = "" if spec.library == GIVEN else f", weights `{spec.weights}`"
    return [
        ["network", f"{info.model}: {built}{weights}"],
        ["its fingerprint", f"`{info.backbone_fingerprint}`"],
        ["task", spec.task],
        ["split", f"`{info.split}`, where {flat(info.feature_shape)} crosses"],
        ["input", str(tuple(info.image_shape))],
        ["trained on", info.data],
        [
            "unit",
            info.unit_name
            if info.unit_name == info.unit["architecture"]
            else f"{info.unit_name}, {info.unit['architecture']}",
        ],
        ["licence", licence or "none stated"],
    ]


def figures(curve: Curve, points: Sequence[Point], figure: bool) -> Iterator[str]:
    """Return what the curve says of the rates."""
    yield (
        f"Of {curve.num_images} images of {curve.data}, by bytes that were really written and decoded, header and all. "
        "Intervals are of 95 %, by bootstrap over the images. Agreement is how often the cut network decides as the "
        "whole one."
    )
    labelled = curve.unsplit is not None
    names = ["rate", "bytes an image", *([curve.metric, "95 %"] if labelled else []), "agreement"]
    whole = [["whole network", "", *_score(curve.unsplit, curve.unsplit_interval), ""]] if labelled else []
    rows = [
        [
            point["setting"],
            f"{point['payload_bytes']:,.1f}",
            *(_score(point[curve.metric], point.get("interval")) if labelled else []),
            f"{point['agreement']:.1%}",
        ]
        for point in points
    ]
    yield _table(names, [*whole, *rows], "-:")
    if figure:
        yield f"![{curve.metric} over bytes]({FIGURE})"
    others = [codec for codec in curve.codecs if codec != points[0]["codec"]]
    beside = f", beside {', '.join(others)}" if others else ""
    yield f"[{CURVE}]({CURVE}) has every figure{beside}."


def given_to_load(spec: BackboneSpec) -> str:
    """Return what `bottlenecks.load` has to be given beside the place: what is not shared."""
    if spec.library == GIVEN:
        return ", network=network"
    return f', weights="{spec.weights}"' if is_file(spec.weights) else ""


def usage(info: RateInfo, spec: BackboneSpec, place: str) -> Iterator[str]:
    """Return how to load the ladder from Python, and to run it from the command line."""
    given = given_to_load(spec)
    option = f" --weights {spec.weights}" if "weights" in given else ""
    cut = f'network = bn.cut(model, at="{info.split}", example=images)  # the {info.model} with the fingerprint above\n'
    program = [
        "import bottlenecks as bn\n\n",
        cut if spec.library == GIVEN else "",
        f'net = bn.load("{place}"{given})\n',
        f"net.lmbda = {_finest(info)}  # the rate is one assignment\n",
        "streams = net.encode(images)  # the device: one byte string an image\n",
        "output = net.decode(streams)  # the server\n",
    ]
    yield f"```python\n{''.join(program)}```"
    if spec.library != GIVEN:
        yield f"```\nbottlenecks run {place} IMAGE…{option} --budget-bytes 400\n```"


def _finest(info: RateInfo) -> float:
    return info.lmbda if isinstance(info.lmbda, float) else info.lmbda[-1]


def _score(value: float | None, ends: Sequence[float] | None) -> list[str]:
    interval = "" if ends is None else f"{ends[0]:.1%} … {ends[1]:.1%}"
    return ["" if value is None else f"{value:.1%}", interval]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], align: str = "-") -> str:
    """Write a table in Markdown; all columns but the first are aligned so."""
    lines = [names, ["-", *[align] * (len(names) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
