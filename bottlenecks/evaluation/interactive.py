"""The rate-accuracy plot as a chart to point at, for dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.plot import Trace, metric_key, title, traces, unsplit_values
from bottlenecks.settings.evaluation import FRAME, FRAMINGS

SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
}
DASHES = {"-": "solid", "--": "dash", ":": "dot"}


def chart(curves: Mapping[str, Curve], framing: str = FRAME) -> Any:
    """Make a Plotly figure of the same lines as `plot.draw`; every point tells its setting.

    Args:
        curves: by what their codecs' labels begin with; "" where there is one.
        framing: that their bytes are counted in.

    Raises:
        UsageError: Plotly is not installed.
    """
    try:
        from plotly.graph_objects import Figure
    except ModuleNotFoundError:
        raise UsageError("the interactive chart needs Plotly: pip install 'bottlenecks[evaluation]'") from None
    key = metric_key(curves)
    figure = Figure()
    for trace in traces(curves):
        figure.add_scatter(**_scatter(trace, key))
    for value in unsplit_values(curves):
        figure.add_hline(value, line_dash="dash", line_color="grey", annotation_text=f"unsplit {value:.1%}")
    figure.update_xaxes(type="log", title=f"bytes on the wire {FRAMINGS[framing]}")
    figure.update_yaxes(tickformat=".1%", title=key)
    figure.update_layout(title=title(curves), template="simple_white")
    return figure


def _scatter(trace: Trace, key: str) -> dict[str, Any]:
    below, above = trace.errors(key)
    return {
        "x": trace.num_bytes,
        "y": trace.values(key),
        "error_y": {"array": above, "arrayminus": below, "thickness": 1},
        "text": [point["setting"] for point in trace.points],
        "hovertemplate": "%{text}<br>%{x:,.1f} bytes<br>%{y:.2%}",
        "name": trace.label,
        "mode": "lines+markers",
        "line": {"color": trace.style["color"], "dash": DASHES[trace.style["linestyle"]]},
        "marker": {"symbol": SYMBOLS[trace.style["marker"]]},
    }
