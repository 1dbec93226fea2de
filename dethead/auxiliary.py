"""Further losses of the positive anchors, for ``DetectionLoss(extra=...)``."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dethead.criterion import Positives
from dethead.losses.classification import distillation
from dethead.losses.triplets import check_embedding_loss, class_embedding_loss, single_labels


@dataclass(frozen=True, slots=True)
class EmbeddingLoss:
    """Pulls the embeddings of a class together and pushes those of others apart.

    Args:
        kind: of loss; see ``dethead.losses.embedding``.
        margin: between the distances.
        mining: which negative a triplet takes.
        swap: take the smaller of the two distances to the negative.
    """

    kind: Literal["triplet", "margin_ranking", "ratio", "cosine_embedding", "contrastive"]
    margin: float = 0.2
    mining: Literal["semi_hard", "hardest"] = "semi_hard"
    swap: bool = False

    def __post_init__(self) -> None:
        check_embedding_loss(self.kind, self.mining, self.margin, self.swap)

    def __call__(self, positives: Positives) -> Tensor:
        """Give the (P,) loss; 0 for boxes of several or of unknown classes.

        Raises:
            ValueError: a head without an embedding branch.
        """
        if positives.output.embeddings is None:
            raise ValueError("an embedding loss needs a head with embedding_channels above 0")
        return class_embedding_loss(
            positives.output.embeddings,
            single_labels(positives.targets, positives.class_known),
            kind=self.kind,
            mining=self.mining,
            margin=self.margin,
            swap=self.swap,
        )


@dataclass(frozen=True, slots=True)
class Distillation:
    """Follows a teacher's class probabilities, softened by a temperature.

    Args:
        temperature: above 0.
        activation: of the scheme that teacher and student share.

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531.
    """

    temperature: float
    activation: Literal["softmax", "sigmoid"]

    def __call__(self, positives: Positives) -> Tensor:
        """Give the (P,) loss.

        Raises:
            ValueError: no teacher was given to the criterion.
        """
        if positives.teacher is None:
            raise ValueError("distillation needs a teacher's output of the same images")
        return distillation(
            positives.output.class_logits,
            positives.teacher.class_logits,
            temperature=self.temperature,
            activation=self.activation,
        )
