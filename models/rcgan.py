"""RCGAN (Yang, Bozchalooi & Darve, "Regularized Cycle Consistent Generative Adversarial Network for Anomaly
Detection", ECAI 2020)."""

import torch
from torch import Tensor

from inspect_gan.detector import Score, detectors
from inspect_gan.models.alad import ALAD, ALADSettings
from inspect_gan.objectives.penalties import PenaltyName
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import distance


class RCGANSettings(ALADSettings):
    """Those of ALAD; D_zz is off and the penalty distribution on."""

    allow_zz: bool = False
    penalty: PenaltyName = "normal"


@detectors.register("rcgan")
class RCGAN(ALAD):
    """ALAD without D_zz, whose D_xz also rejects (x_t, E(x_t)), x_t drawn from a penalty distribution t of noise.

    With q the density of (x, E(x)), p that of (G(z), z) and t that of (x_t, E(x_t)), the optimal D_xz is
    q / (q + t + p) (eq. 5) and the optimal generator p = max(0, beta q - t) with 1 <= beta <= 2 (Theorem 1): what the
    data hardly contain is not generated, so it cannot be reconstructed. E minimises the penalty as well (eq. 4; off:
    `penalty_to_encoder=False`). Order per batch as in ALAD: D_xz, D_xx, then G and E.

    Scores: ||f_xx(x, x) - f_xx(x, x')||_2 (eq. 12, default), 1 - sigmoid(D_xx(x, x')) (eq. 11), and those of ALAD, its
    feature score as `features_l1`.

    Deviations. Networks and other settings are those of ALAD: the authors give none for images. Independent noise is
    far from any image, defective or not. Once D_xz has learnt that, the penalty no longer acts; the logged
    `penalty_real` is then near 0. The encoder's part, as printed in eq. 4, lets E make noise acceptable to D and can
    lead G off the data: on points in the plane it does (docs/toys.md), with `penalty_to_encoder=False` it does not.

    Preset "thesis": ALAD's; the thesis has no RCGAN.
    """

    settings_class = RCGANSettings
    settings: RCGANSettings

    def own_scores(self) -> dict[str, Score | Mixture]:
        scores = super().own_scores()
        return {
            "features": Score("||f_xx(x, x) - f_xx(x, x')||_2", lambda v: distance(v.cycle_features, v.cycle_rec[1])),
            "dxx": Score("1 - sigmoid(D_xx(x, x'))", lambda v: self._rejection(v.cycle_rec[0])),
            "features_l1": scores.pop("features"),
            **scores,
        }

    def _rejection(self, out: Tensor) -> Tensor:
        """1 - sigmoid of raw outputs (B,), in the form that keeps small values apart."""
        return torch.sigmoid(out.float() if self.cycle.tricks.flip_labels else -out.float())
