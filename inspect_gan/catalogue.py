"""What there is to choose from, read from the registries."""

import inspect

from inspect_gan.config import GRIDS, make_config, packaged_configs, takes_penalty
from inspect_gan.datasets.layouts import LAYOUTS
from inspect_gan.detector import SHARED_SCORES, detectors
from inspect_gan.objectives import Optimizer, objectives
from inspect_gan.tricks import TRICKS


def catalogue(kind: str) -> dict[str, str]:
    """{name: one line} of "detectors", "objectives", "scores" (detector.score), "tricks", "datasets", "configs" or
    "grids"."""
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
    if kind == "grids":
        return {name: f"ablate {name}" for name in packaged_configs(GRIDS)}
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
        "An epoch is 800 batches of 64 patches. Formulas: `models/<name>.py`.",
        "",
        "| detector | stages (epochs) | steps per iteration, in order | optimisers (rate, betas) | objective | score |"
        " parameters |",
        "|---|---|---|---|---|---|---:|",
    ]
    for name in detectors.names():
        default, thesis = (_facts(name, preset) for preset in ("default", "thesis"))
        cells = [a if a == b else f"{a} [{b}]" for a, b in zip(default, thesis, strict=True)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    lines += [
        "",
        "Settings and their defaults: [configuration](configuration.md#detector).",
        "",
        "## Objectives and penalty",
        "",
        "Y: a natural pair; a letter: see below; –: refused with an error.",
        "",
        *_compatibility(),
        "",
        "## Scores",
        "",
    ]
    for name in detectors.names():
        own = make_config({"detector": name}).build(1).own_scores()
        lines.append(f"- `{name}`: " + "; ".join(f"`{score}` {entry.text}" for score, entry in own.items()))
    shared = "; ".join(f"`{score}` {entry.text}" for score, entry in SHARED_SCORES.items())
    return "\n".join([*lines, f"- every detector: {shared}", ""])


def _compatibility() -> list[str]:
    """The table of detectors and objectives, then its notes."""
    names = objectives.names()
    rows: dict[str, list[str | None]] = {}
    for name in detectors.names():
        detector = detectors.get(name)
        penalty = "" if takes_penalty(detector) else None
        rows[f"`{name}`"] = [*(detector.objectives.get(objective) for objective in names), penalty]
        if detector.pair_objectives:
            rows[f"`{name}`, D_xx and D_zz"] = [*(detector.pair_objectives.get(objective) for objective in names), None]
    notes = list(dict.fromkeys(note for row in rows.values() for note in row if note))

    def cell(note: str | None) -> str:
        return "–" if note is None else chr(ord("a") + notes.index(note)) if note else "Y"

    return [
        f"| detector | {' | '.join(f'`{objective}`' for objective in names)} | penalty distribution |",
        f"|---|{'---|' * (len(names) + 1)}",
        *(f"| {name} | {' | '.join(map(cell, row))} |" for name, row in rows.items()),
        "",
        *(f"- {cell(note)}: {note}" for note in notes),
    ]


def _facts(name: str, preset: str) -> tuple[str, ...]:
    """Cells of a detector's row."""
    config = make_config({"detector": {"name": name, "preset": preset}})
    detector = config.build(1)
    steps: list[str] = []
    trained_by: dict[str, list[str]] = {}
    for stage in detector.stages():
        steps.append(", ".join(f"{phase.name} {phase.repeats}" for phase in stage.phases))
        for phase in stage.phases:
            trained_by.setdefault(_optimizer(phase.optimizer), []).append(phase.name)
    objective = f"`{config.objective['name']}`"
    if config.detector.get("penalty", "none") != "none":
        objective += f", penalty `{config.detector['penalty']}`"
    return (
        ", ".join(f"{stage.name} {stage.epochs}" for stage in detector.stages()),
        "; ".join(steps),
        "; ".join(f"{', '.join(phases)}: {optimizer}" for optimizer, phases in trained_by.items()),
        objective,
        f"`{detector.published_score()}`",
        f"{sum(p.numel() for p in detector.parameters()):,}",
    )


def _optimizer(optimizer: Optimizer) -> str:
    betas = f", {optimizer.betas[0]:g}, {optimizer.betas[1]:g}" if optimizer.kind.startswith("adam") else ""
    return f"{optimizer.kind} {optimizer.lr:g}{betas}"


if __name__ == "__main__":
    print(detector_page(), end="")
