"""What there is to choose from, read from the registries."""

import inspect

from inspect_gan.config import make_config, packaged_configs
from inspect_gan.datasets.layouts import LAYOUTS
from inspect_gan.detector import RESIDUAL_SCORES, detectors
from inspect_gan.objectives import objectives
from inspect_gan.tricks import TRICKS


def catalogue(kind: str) -> dict[str, str]:
    """{name: one line} of "detectors", "objectives", "scores" (detector.score), "tricks", "datasets" or "configs"."""
    if kind == "detectors":
        return {name: _first_line(detectors.get(name)) for name in detectors.names()}
    if kind == "objectives":
        return {name: _first_line(objectives.get(name)) for name in objectives.names()}
    if kind == "scores":
        return {
            f"{name}.{score}": entry.text
            for name in detectors.names()
            for score, entry in make_config({"detector": name}).build(1).score_table().items()
        }
    if kind == "tricks":
        return {
            name: f"{trick.text}: {' '.join(f'{key}={value}' for key, value in trick.on.items())}"
            for name, trick in TRICKS.items()
        }
    if kind == "datasets":
        return {name: layout.summary for name, layout in LAYOUTS.items()}
    return {name: f"--config {name}" for name in packaged_configs()}


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").splitlines()[0]


def detector_page() -> str:
    """docs/detectors.md: what every detector trains and with which objectives, read from the code."""
    lines = [
        "# Detectors",
        "",
        "Made from the code by `python -m inspect_gan.catalogue > docs/detectors.md`; a test keeps it true.",
        "Values for patches of 32 px, one channel, preset `default`, in brackets preset `thesis` where it differs.",
        "Formulas: `models/<name>.py`.",
        "",
        "| detector | stages (epochs) | steps per iteration, in order | optimisers | objective | score | parameters |",
        "|---|---|---|---|---|---|---:|",
    ]
    for name in detectors.names():
        default, thesis = (_facts(name, preset) for preset in ("default", "thesis"))
        cells = [a if a == b else f"{a} [{b}]" for a, b in zip(default, thesis, strict=True)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    lines += [
        "",
        "## Objectives",
        "",
        "Y: a natural pair; a letter: see below; –: refused with an error.",
        "",
        f"| detector | {' | '.join(f'`{objective}`' for objective in objectives.names())} |",
        f"|---|{'---|' * len(objectives.names())}",
    ]
    notes: list[str] = []
    for name in detectors.names():
        row = []
        for objective in objectives.names():
            note = detectors.get(name).objectives.get(objective)
            if note and note not in notes:
                notes.append(note)
            row.append("–" if note is None else chr(ord("a") + notes.index(note)) if note else "Y")
        lines.append(f"| `{name}` | {' | '.join(row)} |")
    lines += ["", *(f"- {chr(ord('a') + number)}: {note}" for number, note in enumerate(notes)), "", "## Scores", ""]
    for name in detectors.names():
        own = make_config({"detector": name}).build(1).own_scores()
        lines.append(f"- `{name}`: " + "; ".join(f"`{score}` {entry.text}" for score, entry in own.items()))
    shared = "; ".join(f"`{score}` {entry.text}" for score, entry in RESIDUAL_SCORES.items())
    return "\n".join([*lines, f"- every detector: {shared}", ""])


def _facts(name: str, preset: str) -> tuple[str, ...]:
    """Cells of a detector's row."""
    config = make_config({"detector": {"name": name, "preset": preset}})
    detector = config.build(1)
    stages = detector.stages()
    steps, rates = [], []
    for stage in stages:
        steps.append(", ".join(f"{phase.name} {phase.repeats}" for phase in stage.phases))
        rates += [f"{phase.name} {phase.optimizer.kind} {phase.optimizer.lr:g}" for phase in stage.phases]
    return (
        ", ".join(f"{stage.name} {stage.epochs}" for stage in stages),
        "; ".join(steps),
        ", ".join(rates),
        f"`{config.objective['name']}`",
        f"`{detector.default_score[preset]}`",
        f"{sum(p.numel() for p in detector.parameters()):,}",
    )


if __name__ == "__main__":
    print(detector_page(), end="")
