"""Where images come from: folders of images or patches, MVTec trees, NanoTWICE, synthetic nanofibres."""

from inspect_gan.datasets.check import Report, check_dataset
from inspect_gan.datasets.samples import DataSet, Sample, find_images, pair_masks
from inspect_gan.datasets.sources import open_dataset

__all__ = ["DataSet", "Report", "Sample", "check_dataset", "find_images", "open_dataset", "pair_masks"]
