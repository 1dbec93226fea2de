"""Heads: feature maps in, HeadOutput out. No loss, no decoding, no thresholds."""

import math
import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dethead.boxes import at_least_float32
from dethead.schemes import ClassScheme, Prior
from dethead.structures import HeadOutput

Norm = Literal["group", "batch", "sync", "none"]
LevelNorm = Literal["shared", "per_level"]
Towers = Literal["shared", "decoupled"]

CHANNELS_PER_GROUP = 8
"""Of GroupNorm: narrow heads keep groups of a useful size, where a fixed 32 groups would leave 2 channels."""


class DetectionHead(nn.Module):
    """A convolution tower, or two, and one prediction layer, shared by all pyramid levels.

    Sources: two towers, Ge et al., "YOLOX", 2021, section 2.1 (https://arxiv.org/abs/2107.08430), without its
    1x1 convolution in front, which the neck has done; normalisation by level, Lyu et al., "RTMDet", 2022,
    section 3.2 (https://arxiv.org/abs/2212.07784); factors on the boxes, Tian et al., "FCOS", 2019,
    section 3.2 (https://arxiv.org/abs/1904.01355).

    Args:
        in_channels: channels of every feature map.
        anchors_per_cell: anchor shapes at each of its cells.
        num_classes: C, foreground classes only.
        scheme: decides the initial bias of the class logits, nothing else here.
        width: channels of a tower; ``in_channels`` if not given.
        depth: 3x3 convolutions in a tower, 0 for none.
        separable: depthwise 3x3 and pointwise 1x1 in place of a full 3x3 convolution.
        norm: behind each convolution of a tower. "batch" mixes the statistics of all levels, unless each has
            its own; "sync" is the same with the statistics of the batches of all processes
            (``nn.SyncBatchNorm``). "group" needs no batch at all: it is for few images per process, and
            one image or many processes train alike.
        towers: "shared", one for all numbers, or "decoupled": one for class logits (and embeddings), another
            of the same size for confidence and box.
        level_norm: "per_level" gives each level normalisation layers of its own behind the convolutions that
            all share. Levels differ in scale, and in what they see.
        box_scale: multiply the four box numbers by a learned factor of each level, 1 at the start.
        levels: number of maps; needed for what each of them has of its own, and checked where it is given.
        class_prior: probability that each class starts with; see ``ClassScheme.initial_bias``.
        confidence_prior: where every anchor starts; without it background swamps the first steps.
        box_bias: the four box numbers that every anchor starts with. ``anchor_code(codec)`` makes that the
            anchor itself; a codec of distances would otherwise start with boxes of no size.
        embedding_channels: E, numbers in the embedding of each anchor; 0 for no embedding branch. Embeddings
            have length 1, so that a margin means the same in every run: distances are in [0, 2].

    Raises:
        ValueError: a number out of its range, an unknown word, or options that do not go together.
    """

    def __init__(
        self,
        in_channels: int,
        anchors_per_cell: int,
        num_classes: int,
        scheme: ClassScheme,
        *,
        width: int | None = None,
        depth: int = 2,
        separable: bool = False,
        norm: Norm = "group",
        towers: Towers = "shared",
        level_norm: LevelNorm = "shared",
        box_scale: bool = False,
        levels: int | None = None,
        class_prior: Prior = None,
        confidence_prior: float = 0.01,
        box_bias: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
        embedding_channels: int = 0,
    ) -> None:
        super().__init__()
        if num_classes < 1 or anchors_per_cell < 1 or depth < 0:
            raise ValueError(
                "num_classes and anchors_per_cell must be at least 1, depth at least 0; got "
                f"{num_classes}, {anchors_per_cell}, {depth}"
            )
        width = in_channels if width is None else width
        if in_channels < 1 or width < 1:
            raise ValueError(f"in_channels and width must be at least 1, got {in_channels} and {width}")
        if embedding_channels < 0:
            raise ValueError(f"embedding_channels must be at least 0, got {embedding_channels}")
        if not 0 < confidence_prior < 1:
            raise ValueError(f"confidence_prior must be in (0, 1), got {confidence_prior}")
        _check_towers(towers, depth)
        own_norms = _levels_of_their_own(level_norm, norm, depth, box_scale, levels)
        self.num_classes = num_classes
        self.anchors_per_cell = anchors_per_cell
        self.levels = levels
        widths = [in_channels] + [width] * depth

        def tower() -> _ByLevel:
            return _ByLevel(*(_tower_block(i, o, separable, norm, own_norms) for i, o in pairwise(widths)))

        # What the layers draw for themselves is not used: it must not move the random numbers on, because how
        # many they draw depends on their shapes.
        with torch.random.fork_rng(devices=[]):
            self.tower = tower()
            self.box_tower = tower() if towers == "decoupled" else None
            # One layer also behind two towers: its rows are the numbers of the output, whoever feeds them.
            self.prediction = nn.Conv2d(widths[-1], anchors_per_cell * (num_classes + 5), 1)
        self.box_factors = nn.Parameter(torch.ones(levels or 0)) if box_scale else None
        confidence_bias = math.log(confidence_prior / (1 - confidence_prior))
        class_bias = scheme.initial_bias(num_classes, class_prior)
        self._initialise(torch.cat([class_bias, class_bias.new_tensor([confidence_bias, *box_bias])]))
        self.embedding: nn.Conv2d | None = None
        if embedding_channels:
            # Last, and without moving the random numbers on: everything else, here and in what is built
            # afterwards, starts as it does without the branch.
            with torch.random.fork_rng(devices=[]):
                self.embedding = nn.Conv2d(widths[-1], anchors_per_cell * embedding_channels, 1)

    def _initialise(self, bias: Tensor) -> None:
        """Set the towers, and the prediction layer with the (C + 5,) bias of each anchor.

        Every layer draws from a stream of its own, named after it: of two heads with the same seed all layers
        of the same name and shape start alike, whatever else differs. The seed is a number of torch's stream.
        """
        seed = int(torch.randint(2**32, (), device="cpu"))
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            stream = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
            drawn = torch.empty(module.weight.shape, device="cpu")
            if module is self.prediction:
                # Small weights: the first outputs are what the priors say, whatever image and scheme.
                nn.init.normal_(drawn, std=0.01, generator=stream)
                new_bias = bias.repeat(self.anchors_per_cell)
            else:
                # fan_in, because a depthwise convolution's fan_out counts channels it does not feed
                nn.init.kaiming_normal_(drawn, mode="fan_in", nonlinearity="relu", generator=stream)
                new_bias = torch.zeros(module.out_channels)
            with torch.no_grad():
                module.weight.copy_(drawn)
                if module.bias is not None:
                    module.bias.copy_(new_bias)

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Predict from one (B, in_channels, H_l, W_l) map per level, finest first.

        The order along A is level, row, column, anchor shape, as the anchors are generated.

        Raises:
            ValueError: another number of maps than ``levels``, where that was given.
        """
        if self.levels not in (None, len(features)):
            raise ValueError(f"the head was made for {self.levels} levels, got {len(features)} maps")
        layers = self._prediction_layers()
        maps, embeddings = [], []
        for level, feature in enumerate(features):
            tower = self.tower(feature, level)
            inputs = [tower] if self.box_tower is None else [tower, self.box_tower(feature, level)]
            maps.append(self._predict(inputs, layers, level))
            if self.embedding is not None:
                embeddings.append(self.embedding(tower))
        raw = self._per_anchor(*zip(*maps, strict=True))
        if not embeddings:
            return HeadOutput(raw)
        directions = F.normalize(at_least_float32(self._per_anchor(embeddings)), dim=-1)
        return HeadOutput(raw, directions)

    @property
    def output_layers(self) -> tuple[nn.Conv2d, ...]:
        """The layers whose rows are the numbers that this head gives, embeddings among them."""
        return (self.prediction,) if self.embedding is None else (self.prediction, self.embedding)

    @property
    def class_rows(self) -> Tensor:
        """(anchors_per_cell * C, width) weights that make class logits, attached to the parameter.

        What a penalty on the class weights is taken of; see ``l2_penalty``.
        """
        return self._rows(self.prediction.weight)[:, : self.num_classes].flatten(0, 1).flatten(1)

    def _rows(self, values: Tensor) -> Tensor:
        """View the prediction layer's weight or bias as (anchors_per_cell, C + 5, ...)."""
        return values.view(self.anchors_per_cell, self.num_classes + 5, *values.shape[1:])

    def _prediction_layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of what stands behind each tower: all rows, or the classes' rows and the others."""
        weight, bias = self.prediction.weight, self.prediction.bias
        assert bias is not None
        if self.box_tower is None:
            return [(weight, bias)]
        weight, bias = self._rows(weight), self._rows(bias)
        parts = slice(self.num_classes), slice(self.num_classes, None)
        return [(weight[:, part].flatten(0, 1), bias[:, part].flatten()) for part in parts]

    def _predict(
        self, inputs: list[Tensor], layers: list[tuple[Tensor, Tensor]], level: int
    ) -> tuple[Tensor, ...]:
        """The prediction maps of one level, one for each tower."""
        if self.box_tower is None and self.box_factors is None:
            return (self.prediction(*inputs),)
        if self.box_factors is not None:
            # On the few weights in place of the map: the same numbers, and no copy of it.
            layers = [*layers[:-1], self._scale_boxes(*layers[-1], self.box_factors[level])]
        return tuple(F.conv2d(map_, *layer) for map_, layer in zip(inputs, layers, strict=True))

    def _scale_boxes(self, weight: Tensor, bias: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply the rows of the box numbers, the last four of each anchor."""
        others = len(bias) // self.anchors_per_cell - 4
        factors = torch.cat([factor.new_ones(others), factor.expand(4)]).repeat(self.anchors_per_cell)
        return weight * factors.view(-1, 1, 1, 1), bias * factors

    def _per_anchor(self, *branches: Sequence[Tensor]) -> Tensor:
        """(B, anchors_per_cell * K, H_l, W_l) of each level to (B, A, K), in one copy.

        Only what is a view in either memory format happens before the levels are joined: rows and columns
        become one, and change places with the channels. Shapes are told apart in the joined tensor. Of two
        branches the K are joined as well.
        """
        if len(branches) == 1:
            cells = torch.cat([maps.flatten(2).transpose(1, 2) for maps in branches[0]], dim=1)
            batch, count, channels = cells.shape
            return cells.view(batch, count * self.anchors_per_cell, channels // self.anchors_per_cell)
        if torch.compiler.is_compiling():  # compilers make one copy of these two, and exporters know them
            levels = zip(
                *([_cells(maps, self.anchors_per_cell) for maps in one] for one in branches), strict=True
            )
            return torch.cat([torch.cat(level, dim=3) for level in levels], dim=1).flatten(1, 2)
        joined: Tensor = _JoinBranches.apply(self.anchors_per_cell, *branches[0], *branches[1])
        return joined


class _JoinBranches(torch.autograd.Function):
    """Two maps of each level, of K1 and K2 numbers an anchor, to (B, A, K1 + K2), in one copy.

    ``torch.cat`` joins along one axis: numbers and levels would be two copies. Autograd, of slices that are
    written one by one, copies the whole gradient for each.
    """

    @staticmethod
    def forward(anchors_per_cell: int, *maps: Tensor) -> Tensor:
        places, shape = _places(anchors_per_cell, maps)
        joined = maps[0].new_empty(shape)
        cells = _by_cell(joined, anchors_per_cell)
        for place, one in zip(places, maps, strict=True):
            cells[place].copy_(_cells(one, anchors_per_cell))
        return joined

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        anchors_per_cell, *maps = inputs
        ctx.anchors_per_cell = anchors_per_cell
        ctx.places, _ = _places(anchors_per_cell, maps)
        ctx.shapes = [one.shape for one in maps]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cells = _by_cell(gradient, ctx.anchors_per_cell)
        # Dense and channels last, as the convolutions behind want it.
        dense = [cells[place].flatten(2).transpose(1, 2) for place in ctx.places]
        return None, *(one.view(shape) for one, shape in zip(dense, ctx.shapes, strict=True))


def _by_cell(joined: Tensor, anchors_per_cell: int) -> Tensor:
    """View (B, A, K) as (B, cells, anchors_per_cell, K)."""
    batch, count, numbers = joined.shape
    return joined.view(batch, count // anchors_per_cell, anchors_per_cell, numbers)


def _cells(maps: Tensor, anchors_per_cell: int) -> Tensor:
    """View (B, anchors_per_cell * K, H, W) as (B, H * W, anchors_per_cell, K), in either memory format."""
    batch, channels, *cells = maps.shape
    numbers = maps.view(batch, anchors_per_cell, channels // anchors_per_cell, *cells)
    return numbers.flatten(3).permute(0, 3, 1, 2)


def _places(
    anchors_per_cell: int, maps: Sequence[Tensor]
) -> tuple[list[tuple[slice, ...]], tuple[int, int, int]]:
    """Where each map goes in (B, cells, anchors_per_cell, K1 + K2), and the joined (B, A, K1 + K2)."""
    levels = len(maps) // 2
    first, second = (maps[i].shape[1] // anchors_per_cell for i in (0, levels))
    cells = [0, *accumulate(one.shape[2] * one.shape[3] for one in maps[:levels])]
    everything = slice(None)
    places: list[tuple[slice, ...]] = [
        (everything, slice(*rows), everything, numbers)
        for numbers in (slice(first), slice(first, first + second))
        for rows in pairwise(cells)
    ]
    return places, (maps[0].shape[0], cells[-1] * anchors_per_cell, first + second)


class _ByLevel(nn.Sequential):
    """Layers one after the other; of a ``nn.ModuleList`` among them the one of the map's level."""

    def forward(self, features: Tensor, level: int = 0) -> Tensor:
        for layer in self:
            if isinstance(layer, _ByLevel):
                features = layer(features, level)
            else:
                features = (layer[level] if isinstance(layer, nn.ModuleList) else layer)(features)
        return features


def _tower_block(
    in_channels: int, out_channels: int, separable: bool, norm: Norm, own_norms: int | None
) -> _ByLevel:
    """3x3 convolution, normalisation (of each of ``own_norms`` levels its own, or one for all), ReLU."""
    layers: list[nn.Module] = []
    bias = norm == "none"
    if separable:
        layers += [
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=bias),
        ]
    else:
        layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)]
    if norm != "none":
        one = [_normalisation(out_channels, norm) for _ in range(own_norms or 1)]
        layers += one if own_norms is None else [nn.ModuleList(one)]
    return _ByLevel(*layers, nn.ReLU(inplace=True))


def _normalisation(channels: int, norm: Norm) -> nn.Module:
    if norm in ("batch", "sync"):
        return nn.BatchNorm2d(channels) if norm == "batch" else nn.SyncBatchNorm(channels)
    if norm != "group":
        raise ValueError(f"norm must be 'group', 'batch', 'sync' or 'none', got {norm!r}")
    groups = max(1, channels // CHANNELS_PER_GROUP)
    if channels % groups:
        raise ValueError(f"a width of {channels} does not divide into groups of {CHANNELS_PER_GROUP}")
    return nn.GroupNorm(groups, channels)


def _check_towers(towers: Towers, depth: int) -> None:
    if towers not in ("shared", "decoupled"):
        raise ValueError(f"towers must be 'shared' or 'decoupled', got {towers!r}")
    if towers == "decoupled" and not depth:
        raise ValueError("towers 'decoupled' needs a depth of at least 1, got 0: there is no tower")


def _levels_of_their_own(
    level_norm: LevelNorm, norm: Norm, depth: int, box_scale: bool, levels: int | None
) -> int | None:
    """Give the number of levels that have their own normalisation; None: all share it."""
    if level_norm not in ("shared", "per_level"):
        raise ValueError(f"level_norm must be 'shared' or 'per_level', got {level_norm!r}")
    own = level_norm == "per_level"
    if own and (norm == "none" or not depth):
        raise ValueError(
            "level_norm 'per_level' needs norm 'group', 'batch' or 'sync' and a depth of at least 1, got "
            f"norm {norm!r} and depth {depth}"
        )
    if (own or box_scale) and (levels is None or levels < 1):
        raise ValueError(f"level_norm 'per_level' and box_scale need levels, at least 1, got {levels}")
    return levels if own else None
