"""What the training loop asks of an assigner."""

from collections.abc import Sequence
from typing import Protocol

from dethead.structures import Anchors, Assignment, GroundTruth, Predictions


class Assigner(Protocol):
    """Says for every anchor of a batch which truth it answers for.

    On a GPU ``MaxIoUAssigner`` waits for nothing. The others of this package count the candidates they find,
    and wait for the device each time.
    """

    @property
    def needs_predictions(self) -> bool:
        """True where the matching cost depends on what the network says now."""
        ...

    def __call__(
        self, anchors: Anchors, truth: Sequence[GroundTruth], predictions: Predictions | None = None
    ) -> Assignment:
        """Assign B images without gradient. An image without objects is background, not an error."""
        ...
