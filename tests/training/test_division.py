"""What images have room for."""

import pytest

from inspect_gan.config import DEFAULT_RECIPE
from inspect_gan.errors import InspectGanError
from inspect_gan.training.division import default_config, divide

SIZE = (700, 1024)


def test_more_is_held_out_than_a_threshold_needs_where_there_is_room() -> None:
    _, config = default_config([SIZE] * 5)
    widths = [{region.width for region in divide([SIZE] * n, 64, config).held_out} for n in (5, 15)]
    # 200 blocks of 64 px are comfortable: 40 of each of five images (a quarter of the width), 20 of each of fifteen.
    assert widths == [{256}, {154}]


def test_settings_of_one_s_own_apply_to_either_configuration() -> None:
    name, config = default_config([SIZE] * 5, ["seed=7"])
    assert (name, config.seed, config.patches.size) == (DEFAULT_RECIPE, 7, 64)
    name, config = default_config([(32, 32)] * 500, ["seed=7"])
    assert (name, config.seed, config.patches.size) == ("ganomaly", 7, 32)
    # Asked for more: held-out material that small images do not have.
    assert default_config([SIZE] * 5, ["scoring.target_fpr=0.001"])[0] == "ganomaly"


def test_no_threshold_without_material() -> None:
    _, config = default_config([SIZE] * 5)
    with pytest.raises(InspectGanError, match="held-out"):
        divide([(128, 256)], 64, config)
