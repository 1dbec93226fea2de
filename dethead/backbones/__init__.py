"""Networks that turn images into feature maps of several strides."""

from dethead.backbones.chain import ChainBackbone
from dethead.backbones.depthwise import DepthwiseConv2d, quicken_depthwise
from dethead.backbones.efficientnet_lite import efficientnet_lite0
from dethead.backbones.feature_pyramid import FeaturePyramid
from dethead.backbones.folding import fold_batch_norm
from dethead.backbones.freezing import FrozenBatchNorm2d, freeze_stages, set_norm, statistics_kept
from dethead.backbones.interface import Backbone
from dethead.backbones.path_aggregation import PathAggregation
from dethead.backbones.torchvision_models import torchvision_backbone

__all__ = [
    "Backbone",
    "ChainBackbone",
    "DepthwiseConv2d",
    "FeaturePyramid",
    "FrozenBatchNorm2d",
    "PathAggregation",
    "efficientnet_lite0",
    "fold_batch_norm",
    "freeze_stages",
    "quicken_depthwise",
    "set_norm",
    "statistics_kept",
    "torchvision_backbone",
]
