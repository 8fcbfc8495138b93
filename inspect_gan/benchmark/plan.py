"""What is measured and what is made of it: the jobs, the rows of the table, the goals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PEER_VERSION = "2.7.0"
STEPS, QUICK_STEPS = 32, 10
REPETITIONS, QUICK_REPETITIONS = 3, 1

Precision = Literal["32-true", "bf16-mixed", "auto"]


@dataclass(frozen=True)
class Job:
    """One process.

    kind: a case of `cases`, a case of `peer`, or a command of this package. what: its name, or the command's words with
    {data} and {out} to fill in. arguments: of a case. once: has no spread worth repeating it for. bf16: needs a
    processor with bfloat16 instructions. warm: run once uncounted before, so that its files are in memory.
    """

    name: str
    kind: Literal["case", "peer", "command"]
    what: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    once: bool = False
    bf16: bool = False
    warm: bool = False


def _train(name: str, channels: int, precision: Precision, steps: int) -> Job:
    arguments = {"channels": channels, "precision": precision, "steps": steps}
    return Job(name, "case", "train", arguments, bf16=precision == "bf16-mixed")


def _map(name: str, stride: int, precision: Precision, **more: Any) -> Job:
    threads = more.pop("threads", 1)
    arguments = {"stride": stride, "precision": precision, **more}
    return Job(name, "case", "map", arguments, threads, bf16=precision == "bf16-mixed")


def _defect_map(name: str, run: str, threads: int = 1, warm: bool = False) -> Job:
    return Job(
        name,
        "command",
        f"defect_map {{data}}/{run} {{data}}/image.png --stride 16 --out {{out}}",
        {},
        threads,
        warm=warm,
    )


TRAIN = (
    "train --data {data}/nanofibres/train/good --out {out} --steps 10 detector.width=64 detector.nz=100 "
    "scoring.stride=16"
)


def jobs(quick: bool) -> list[list[Job]]:
    """Groups of jobs. Within a group ours and the peer's alternate, so that both meet the same state of the machine."""
    steps = QUICK_STEPS if quick else STEPS
    training = [
        _train("train_fp32", 3, "32-true", steps),
        Job("peer_engine", "peer", "train_engine", {"steps": steps}),
        _train("train_bf16", 3, "bf16-mixed", steps),
        Job("peer_step", "peer", "train_step", {"steps": steps}),
        _train("train_grey_fp32", 1, "32-true", steps),
        Job("peer_step_bf16", "peer", "train_step_bf16", {"steps": steps}, bf16=True),
        _train("train_grey_bf16", 1, "bf16-mixed", steps),
        Job("arithmetic", "case", "arithmetic", once=True),
    ]
    mapping = [
        _map("map16_fp32", 16, "32-true"),
        Job("peer_map16", "peer", "map", {"stride": 16}, warm=True),
        _map("map16_bf16", 16, "bf16-mixed"),
        _map("map8_fp32", 8, "32-true"),
        Job("peer_map8", "peer", "map", {"stride": 8}),
        _map("map8_bf16", 8, "bf16-mixed"),
        _map("map16_rgb", 16, "32-true", run="rgb"),
        _map("map16_two", 16, "auto", threads=2),
        Job("peer_map16_two", "peer", "map", {"stride": 16}, threads=2),
        _map("map8_two", 8, "auto", threads=2),
        Job("peer_map8_two", "peer", "map", {"stride": 8}, threads=2),
    ]
    alone = {"stride": 4, "run": "valid"}
    sharing = [
        _map("shared4_fp32", 4, "32-true", run="valid"),
        Job("alone4_fp32", "case", "one_by_one", {**alone, "precision": "32-true"}, once=True),
        _map("shared4_bf16", 4, "bf16-mixed", run="valid"),
        Job("alone4_bf16", "case", "one_by_one", {**alone, "precision": "bf16-mixed"}, once=True, bf16=True),
        _map("shared4_two", 4, "auto", threads=2, run="valid"),
        _map("shared1_two", 1, "auto", threads=2, run="valid"),
        _map("shared1_bf16", 1, "bf16-mixed", run="valid"),
    ]
    start = [
        Job("help", "command", "--help", warm=True),
        Job("peer_help", "peer", "help", warm=True),
        Job("torch", "case", "import_torch", warm=True),
        Job("scorer_ready", "case", "scorer_ready", warm=True),
        Job("peer_scorer_ready", "peer", "scorer_ready"),
        Job("exported_ready", "case", "exported_ready", warm=True),
        _defect_map("cold", "grey", warm=True),
        _defect_map("cold_two", "grey", threads=2),
        _defect_map("exported", "grey.onnx"),
        _defect_map("exported_two", "grey.onnx", threads=2),
        _defect_map("packaged_two", "packaged.onnx", threads=2),
    ]
    size = [
        Job("train_command", "command", TRAIN, once=True),
        Job("map_stride1", "case", "map_strip", once=True),
        Job("growth", "case", "growth", {"largest": 2 if quick else 4}),
    ]
    return [training, mapping, sharing, start, size]


@dataclass(frozen=True)
class Quantity:
    unit: str
    digits: int
    more_is_better: bool = False


QUANTITIES = {
    "patches_per_cpu_s": Quantity("patches/CPU s", 0, more_is_better=True),
    "mflop_per_patch": Quantity("MFLOP/patch", 0),
    "cpu_s": Quantity("CPU s", 2),
    "process_cpu_s": Quantity("CPU s", 2),
    "ready_cpu_s": Quantity("CPU s", 2),
    "wall_s": Quantity("s", 2),
    "process_wall_s": Quantity("s", 2),
    "rss_mb": Quantity("MB", 0),
    "growth": Quantity("×", 2),
    "rss_growth": Quantity("×", 2),
    "loading_percent": Quantity("%", 1),
}


@dataclass(frozen=True)
class Goal:
    """limit on `of`: ours in its unit, at most; or the ratio to the peer, at least."""

    of: Literal["ours", "ratio"]
    limit: float

    def met(self, value: float) -> bool:
        return value >= self.limit if self.of == "ratio" else value <= self.limit

    def text(self, unit: str) -> str:
        return f"≥ {self.limit:g}×" if self.of == "ratio" else f"≤ {self.limit:g} {unit}".replace(" ×", "×")


@dataclass(frozen=True)
class Row:
    """A line of the table. ours, peer: names of the jobs whose `quantity` is set side by side."""

    name: str
    section: str
    text: str
    quantity: str
    ours: str
    peer: str | None = None
    goal: Goal | None = None


TRAINING = "Training, 32×32 patches, batches of 64"
MAPPING = "Full map of 1024×700 px, GANomaly's score for each patch (`enc_mse`)"
SHARING = "Full map of 1024×700 px, `code` of an encoder without padding, whose work patches share"
MEMORY = "Peak memory of a process"
START = "Start of a process"
GROWTH = "Growth"

ROWS = (
    Row(
        *("train_fp32", TRAINING, "fp32, against the peer's engine", "patches_per_cpu_s"),
        *("train_fp32", "peer_engine", Goal("ratio", 1.6)),
    ),
    Row(
        *("train_bf16", TRAINING, "bf16, against the peer's engine in fp32", "patches_per_cpu_s"),
        *("train_bf16", "peer_engine", Goal("ratio", 2.5)),
    ),
    Row(
        *("train_fp32_step", TRAINING, "fp32, against the peer's step without engine", "patches_per_cpu_s"),
        *("train_fp32", "peer_step"),
    ),
    Row(
        *("train_bf16_step", TRAINING, "bf16, against the peer's step in fp32", "patches_per_cpu_s"),
        *("train_bf16", "peer_step"),
    ),
    Row(
        *("train_bf16_both", TRAINING, "bf16, against the peer's step under bf16 autocast", "patches_per_cpu_s"),
        *("train_bf16", "peer_step_bf16"),
    ),
    Row(
        *("train_grey_fp32", TRAINING, "one channel, fp32; the peer's engine needs three", "patches_per_cpu_s"),
        *("train_grey_fp32", "peer_engine"),
    ),
    Row(
        *("train_grey_bf16", TRAINING, "one channel, bf16; the peer's engine needs three", "patches_per_cpu_s"),
        *("train_grey_bf16", "peer_engine"),
    ),
    Row(
        *("train_arithmetic", TRAINING, "arithmetic of a step, three channels", "mflop_per_patch"),
        *("arithmetic", "peer_step"),
    ),
    Row(
        *("map16_wall", MAPPING, "stride 16, two cores, wall clock", "wall_s"),
        *("map16_two", "peer_map16_two", Goal("ours", 0.6)),
    ),
    Row(
        *("map8_wall", MAPPING, "stride 8, two cores, wall clock", "wall_s"),
        *("map8_two", "peer_map8_two", Goal("ours", 2.2)),
    ),
    Row("map16_fp32", MAPPING, "stride 16, fp32, against the peer's network", "cpu_s", "map16_fp32", "peer_map16"),
    Row(
        *("map16_bf16", MAPPING, "stride 16, bf16, against the peer's network", "cpu_s"),
        *("map16_bf16", "peer_map16", Goal("ratio", 2.5)),
    ),
    Row("map8_fp32", MAPPING, "stride 8, fp32, against the peer's network", "cpu_s", "map8_fp32", "peer_map8"),
    Row(
        *("map8_bf16", MAPPING, "stride 8, bf16, against the peer's network", "cpu_s"),
        *("map8_bf16", "peer_map8", Goal("ratio", 2.5)),
    ),
    Row("map16_rgb", MAPPING, "stride 16, fp32, three channels as the peer", "cpu_s", "map16_rgb", "peer_map16"),
    Row(
        *("cold_wall", MAPPING, "`defect_map` from file to heatmap, two cores, wall clock", "process_wall_s"),
        *("cold_two", None, Goal("ours", 3)),
    ),
    Row(
        *("cold_cpu", MAPPING, "`defect_map` from file to heatmap; the peer's scores alone", "process_cpu_s"),
        *("cold", "peer_map16", Goal("ratio", 2.3)),
    ),
    Row(
        *("exported_wall", MAPPING, "`defect_map` with an exported file, two cores, wall clock", "process_wall_s"),
        *("exported_two", None, Goal("ours", 1)),
    ),
    Row(
        *("packaged_wall", MAPPING, "the same, packaged configuration: width 32, `res_ssim`", "process_wall_s"),
        *("packaged_two", None, Goal("ours", 1)),
    ),
    Row("shared4_wall", SHARING, "stride 4, two cores, wall clock", "wall_s", "shared4_two", None, Goal("ours", 0.25)),
    Row("shared1_wall", SHARING, "stride 1, two cores, wall clock", "wall_s", "shared1_two", None, Goal("ours", 4)),
    Row(
        *("shared4_fp32", SHARING, "stride 4, fp32, against our own network patch by patch", "cpu_s"),
        *("shared4_fp32", "alone4_fp32", Goal("ratio", 10)),
    ),
    Row(
        *("shared4_bf16", SHARING, "stride 4, bf16, against our own network patch by patch", "cpu_s"),
        *("shared4_bf16", "alone4_bf16", Goal("ratio", 10)),
    ),
    Row("shared1_bf16", SHARING, "stride 1, bf16", "cpu_s", "shared1_bf16"),
    Row("memory_train", MEMORY, "`train`", "rss_mb", "train_command", "peer_engine", Goal("ours", 900)),
    Row("memory_map", MEMORY, "`defect_map`, stride 16", "rss_mb", "cold", "peer_map16", Goal("ours", 700)),
    Row(
        *("memory_exported", MEMORY, "`defect_map` with an exported file, stride 16", "rss_mb"),
        *("exported", "peer_map16", Goal("ours", 250)),
    ),
    Row(
        *("memory_stride1", MEMORY, "a map at stride 1 of a strip of 64 rows, score `res_ssim`", "rss_mb"),
        *("map_stride1", None, Goal("ours", 700)),
    ),
    Row(
        *("memory_shared1", MEMORY, "a full map at stride 1 of a score whose work patches share, `code`", "rss_mb"),
        *("shared1_bf16", None, Goal("ours", 700)),
    ),
    Row("memory_torch", MEMORY, "importing torch and nothing else", "rss_mb", "torch"),
    Row("start_help", START, "`--help`", "process_cpu_s", "help", "peer_help", Goal("ours", 0.2)),
    Row("start_torch", START, "importing torch and nothing else", "process_cpu_s", "torch"),
    Row(
        *("start_scorer", START, "a saved detector is ready to score; the peer's network is made", "ready_cpu_s"),
        *("scorer_ready", "peer_scorer_ready", Goal("ours", 2)),
    ),
    Row(
        *("start_exported", START, "an exported file is ready to score", "ready_cpu_s"),
        *("exported_ready", "peer_scorer_ready", Goal("ours", 0.35)),
    ),
    Row(
        *("start_trainer", START, "up to the first training batch", "ready_cpu_s"),
        *("train_fp32", "peer_engine", Goal("ours", 3.5)),
    ),
    Row(
        *("growth_map", GROWTH, "time of a map per megapixel, largest image against 1024×700", "growth", "growth"),
        *(None, Goal("ours", 1.15)),
    ),
    Row(
        *(
            "growth_memory",
            GROWTH,
            "peak memory of a map, 2048×1400 against 1024×700",
            "rss_growth",
            "growth",
        ),
        *(None, Goal("ours", 1.1)),
    ),
    Row(
        *("growth_train", GROWTH, "time of a training step, second half of a run against the first", "growth"),
        *("train_fp32", None, Goal("ours", 1.1)),
    ),
    Row(
        *("loading", GROWTH, "share of a bf16 training step spent on loading data", "loading_percent"),
        *("train_bf16", None, Goal("ours", 10)),
    ),
)
