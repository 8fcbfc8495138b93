"""Pictures of a sweep: what each value of an axis changes, by detector."""

import io
from collections.abc import Sequence

from inspect_gan.ablation.grid import METRICS
from inspect_gan.ablation.statistics import Difference


def effects_figure(effects: Sequence[Difference], metrics: Sequence[str]) -> bytes:
    """PNG of the effects of one axis on one data set: mean paired difference with its 95 % interval for every detector
    and value; a row of panels per metric, a column per score."""
    from matplotlib.figure import Figure

    scores = list(dict.fromkeys(one.score for one in effects))
    names = list(dict.fromkeys(_name(one) for one in effects))
    size = (1.5 + 3.2 * len(scores), (0.9 + 0.28 * len(names)) * len(metrics))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(metrics), len(scores), squeeze=False, sharex="row", sharey=True)
    for row, metric in zip(panels, metrics, strict=True):
        for panel, score in zip(row, scores, strict=True):
            shown = [one for one in effects if one.metric == metric and one.score == score]
            places = [names.index(_name(one)) for one in shown]
            panel.axvline(0, color="black", linewidth=0.8)
            panel.plot([one.mean for one in shown], places, "o", color="tab:blue")
            for one, place in zip(shown, places, strict=True):
                if one.low is not None and one.high is not None:
                    panel.plot([one.low, one.high], [place, place], color="tab:blue", linewidth=1.5)
            panel.set_yticks(range(len(names)), names)
            panel.set_title(_plain(score), fontsize="medium")
            panel.set_xlabel(f"difference in {METRICS.get(metric, metric)}")
            panel.locator_params(axis="x", nbins=4)  # more would run into each other
            panel.grid(axis="x", alpha=0.3)
    panels[0][0].set_ylim(len(names) - 0.5, -0.5)  # shared by all
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()


def _name(one: Difference) -> str:
    return _plain(f"{' '.join(one.fixed.values())} {one.value} – {one.reference}".strip())


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
