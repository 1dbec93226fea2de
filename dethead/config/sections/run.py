"""A whole run, and what its sections must agree on."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dethead.config.sections.assigners import WITHOUT_QUALITY, Assigner
from dethead.config.sections.data import Data
from dethead.config.sections.model import Anchors, Backbone, Codec, Deltas, Head, Neck
from dethead.config.sections.objective import Loss
from dethead.config.sections.schemes import ClassScheme
from dethead.config.sections.section import Section
from dethead.config.sections.training import Postprocess, Training


class Run(Section):
    """One run, complete."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Fixes the initial weights, the order of the images and their augmentation."""
    data: Data
    backbone: Backbone
    neck: Neck = Neck()
    head: Head = Head()
    anchors: Anchors
    class_scheme: ClassScheme
    loss: Loss
    codec: Codec = Deltas()
    assigner: Assigner
    postprocess: Postprocess = Postprocess()
    training: Training

    @model_validator(mode="after")
    def _one_value_per_class(self) -> Self:
        """Lists by class must have one value per class, as far as the config names the classes."""
        if self.data.num_classes is not None:
            self.check_lists(self.data.num_classes)
        return self

    def check_lists(self, classes: int) -> None:
        """Refuse a list by class that has not C values.

        Args:
            classes: C, which the data decide where the config takes all categories.

        Raises:
            ValueError: naming the list.
        """
        lists: dict[str, Any] = {f"class_scheme.{key}": value for key, value in self.class_scheme}
        lists["head.class_prior"] = self.head.class_prior
        lists["postprocess.class_thresholds"] = self.postprocess.class_thresholds
        for key, values in lists.items():
            if isinstance(values, list) and len(values) != classes:
                raise ValueError(f"{key} has {len(values)} values for {classes} classes")

    @model_validator(mode="after")
    def _embeddings_and_their_loss(self) -> Self:
        """One without the other crashes: the loss in the first step, the branch where processes share one."""
        channels, wanted = self.head.embedding_channels, self.loss.embedding is not None
        if wanted and not channels:
            raise ValueError(
                "loss.embedding needs head.embedding_channels above 0: there is no embedding yet"
            )
        if channels and not wanted:
            raise ValueError(
                f"head.embedding_channels {channels} makes embeddings that nothing trains; give "
                "loss.embedding, or 0 channels"
            )
        return self

    @model_validator(mode="after")
    def _quality_from_somewhere(self) -> Self:
        if self.loss.confidence_target == "quality" and self.assigner.name in WITHOUT_QUALITY:
            raise ValueError(
                "loss.confidence_target 'quality' needs an assigner that gives one (center, sim_ota, "
                f"task_aligned), which {self.assigner.name} does not; 'iou' goes with all"
            )
        return self

    @model_validator(mode="after")
    def _whole_cells(self) -> Self:
        """Networks round a started cell up or down, each in its way; whole cells are right for all."""
        coarsest, step, enlarge = self.backbone.strides[-1], self.backbone.whole_cells, self.backbone.enlarge
        for key in ("image_size", "multi_scale"):
            sizes = getattr(self.data, key) or []
            sides = [side for size in sizes for side in (size if isinstance(size, list) else [size])]
            if any(side % step for side in sides):
                seen = "" if enlarge == 1 else f" over backbone.enlarge {enlarge:g}: of {step} px"
                raise ValueError(
                    f"data.{key} {sizes} must be multiples of the backbone's coarsest stride {coarsest}{seen}"
                )
        return self

    @model_validator(mode="after")
    def _one_size_per_level(self) -> Self:
        levels = len(self.backbone.strides) + self.neck.extra_levels
        key = "sizes" if self.anchors.shapes is None else "shapes"
        values = len(getattr(self.anchors, key))
        if values != levels:
            raise ValueError(
                f"anchors.{key} has {values} values for {levels} levels "
                f"(strides {self.backbone.strides} and {self.neck.extra_levels} extra)"
            )
        return self

    @model_validator(mode="after")
    def _several_values_to_normalise(self) -> Self:
        """The head normalises each level by itself, and PyTorch refuses one cell of one image."""
        images = self.training.batch_size // self.training.accumulate
        if self.head.norm not in ("batch", "sync") or not self.head.depth or images > 1:
            return self
        stride = self.backbone.strides[-1] * 2**self.neck.extra_levels
        for size in self.data.input_sizes(self.backbone.whole_cells):
            seen = [round(side * self.backbone.enlarge) for side in size]
            if max(seen) <= stride:
                raise ValueError(
                    f"head.norm {self.head.norm!r} has a single value to normalise where an image of "
                    f"{seen} px has one cell of stride {stride} and training.batch_size "
                    f"{self.training.batch_size} with accumulate {self.training.accumulate} leaves one image "
                    "at a time; give more images, larger ones, or norm 'group'"
                )
        return self
