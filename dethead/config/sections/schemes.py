"""Class schemes: what a class logit means."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dethead.config.sections.section import (
    OWN,
    Count,
    Fraction,
    NotNegative,
    OwnPart,
    Positive,
    Section,
    by_name,
)


class Recipe(Section):
    """Numbers by class, made from how often each class occurs in the training set; mean 1 over its boxes."""

    recipe: Literal["inverse", "sqrt_inverse", "effective_number", "median_frequency"]
    beta: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Of ``effective_number`` (Cui et al. 2019): 0 weighs all alike, towards 1 it becomes ``inverse``."""

    @model_validator(mode="after")
    def _beta_where_it_belongs(self) -> Self:
        if (self.recipe == "effective_number") != (self.beta is not None):
            raise ValueError("beta goes with effective_number, and effective_number needs it, e.g. 0.999")
        return self


def _kind(value: Any) -> str | None:
    if isinstance(value, Recipe) or (isinstance(value, dict) and "recipe" in value):
        return "recipe"
    if isinstance(value, dict):
        return "names"
    return "list" if isinstance(value, list) else None


ByClass = Annotated[
    Annotated[list[NotNegative], Tag("list")]
    | Annotated[dict[str, NotNegative], Tag("names")]
    | Annotated[Recipe, Tag("recipe")],
    Discriminator(
        _kind,
        custom_error_type="by_class",
        custom_error_message="must be one number for each class, {name: number} or {recipe: inverse}",
    ),
]
"""C numbers in order of the classes, ``{name: number}`` (1 for the others), or a recipe."""

Power = NotNegative
"""Of a focusing factor. Between 0 and 1 its gradient is infinite at a saturated logit."""


class Weighted(Section):
    class_weights: ByClass | None = None
    """Factor on the class loss of a box of each class."""

    @model_validator(mode="after")
    def _powers(self) -> Self:
        for key in ("gamma", "beta", "gamma_pos", "gamma_neg"):
            value = getattr(self, key, None)
            if key in _POWERS.get(getattr(self, "name", ""), ()) and value is not None and 0 < value < 1:
                raise ValueError(
                    f"{key} {value} is between 0 and 1, where the gradient at a saturated logit is infinite; "
                    "take 0 or at least 1"
                )
        return self


_POWERS = {
    "focal": ("gamma",),
    "softmax_focal": ("gamma",),
    "varifocal": ("gamma",),
    "quality_focal": ("beta",),
    "asymmetric": ("gamma_pos", "gamma_neg"),
}


class SoftmaxCE(Weighted):
    name: Literal["softmax_ce"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every label that is spread evenly over all classes."""


class MultilabelSoftmax(Weighted):
    name: Literal["multilabel_softmax"]


class SoftmaxFocal(Weighted):
    name: Literal["softmax_focal"]
    gamma: Power


class SoftmaxPoly1(Weighted):
    name: Literal["softmax_poly1"]
    epsilon: Annotated[float, Field(ge=-1, allow_inf_nan=False)]


class KL(Weighted):
    name: Literal["kl"]
    temperature: Positive = 1.0


class Counted(Weighted):
    class_counts: Literal["data"] | list[NotNegative] = "data"
    """Boxes of each class; "data" counts them in the training set."""


class LogitAdjustment(Counted):
    name: Literal["logit_adjustment"]
    tau: NotNegative


class BalancedSoftmax(Counted):
    name: Literal["balanced_softmax"]


class LDAM(Counted):
    name: Literal["ldam"]
    max_margin: NotNegative
    """Margin of the rarest class, in logits."""
    scale: Positive = 1.0


class Seesaw(Weighted):
    name: Literal["seesaw"]
    p: NotNegative = 0.8
    q: NotNegative = 2.0


class Hinge(Weighted):
    name: Literal["hinge"]
    margin: Positive = 1.0
    variant: Literal["weston_watkins", "crammer_singer"] = "weston_watkins"
    squared: bool = False


class MarginRanking(Weighted):
    name: Literal["margin_ranking"]
    margin: Positive = 1.0
    against: Literal["row", "batch"] = "row"
    """The highest wrong score of the box, or of the batch."""


class _Brier(Weighted):
    penalty: Literal["mse", "l1", "smooth_l1"] = "mse"
    beta: Positive | None = None
    """Where smooth_l1 turns into a line, in probability."""

    @model_validator(mode="after")
    def _beta_where_it_belongs(self) -> Self:
        if (self.penalty == "smooth_l1") != (self.beta is not None):
            raise ValueError("beta goes with penalty smooth_l1, and smooth_l1 needs it")
        return self


class SoftmaxBrier(_Brier):
    name: Literal["softmax_brier"]


class SigmoidWeighted(Weighted):
    quality_target: bool = False
    """Teach the IoU of the anchor's decoded box (or the assigner's quality) in place of 1."""


class SigmoidBrier(_Brier, SigmoidWeighted):
    name: Literal["brier"]


class SigmoidBCE(SigmoidWeighted):
    name: Literal["sigmoid_bce"]
    pos_weight: ByClass | None = None
    """Factor on the "yes" term alone, one for each class."""
    neg_weight: ByClass | None = None
    """Factor on the "no" term alone, one for each class."""


class Focal(SigmoidWeighted):
    name: Literal["focal"]
    alpha: Fraction | None
    """Weight of "yes" terms, "no" terms get 1 - alpha; null weighs neither."""
    gamma: Power


class SigmoidPoly1(SigmoidWeighted):
    name: Literal["poly1"]
    epsilon: Annotated[float, Field(ge=-1, allow_inf_nan=False)]


class QualityFocal(SigmoidWeighted):
    name: Literal["quality_focal"]
    quality_target: bool = True
    beta: Power


class Varifocal(SigmoidWeighted):
    name: Literal["varifocal"]
    quality_target: bool = True
    alpha: NotNegative
    gamma: Power


class Asymmetric(SigmoidWeighted):
    name: Literal["asymmetric"]
    gamma_pos: Power
    gamma_neg: Power
    clip: Annotated[float, Field(ge=0, lt=1)] = 0.05


class GHM(SigmoidWeighted):
    name: Literal["ghm"]
    bins: Count = 30


class Equalization(SigmoidWeighted):
    name: Literal["equalization"]
    gamma: Positive = 12.0
    mu: NotNegative = 0.8
    alpha: NotNegative = 4.0


SCHEME_SECTIONS: dict[str, type[Section]] = {
    "softmax_ce": SoftmaxCE,
    "sigmoid_bce": SigmoidBCE,
    "multilabel_softmax": MultilabelSoftmax,
    "focal": Focal,
    "softmax_focal": SoftmaxFocal,
    "quality_focal": QualityFocal,
    "varifocal": Varifocal,
    "asymmetric": Asymmetric,
    "ghm": GHM,
    "poly1": SigmoidPoly1,
    "softmax_poly1": SoftmaxPoly1,
    "hinge": Hinge,
    "margin_ranking": MarginRanking,
    "kl": KL,
    "brier": SigmoidBrier,
    "softmax_brier": SoftmaxBrier,
    "seesaw": Seesaw,
    "equalization": Equalization,
    "logit_adjustment": LogitAdjustment,
    "balanced_softmax": BalancedSoftmax,
    "ldam": LDAM,
}
"""Section of every built-in scheme, by name."""

ClassScheme = Annotated[
    Annotated[SoftmaxCE, Tag("softmax_ce")]
    | Annotated[SigmoidBCE, Tag("sigmoid_bce")]
    | Annotated[MultilabelSoftmax, Tag("multilabel_softmax")]
    | Annotated[Focal, Tag("focal")]
    | Annotated[SoftmaxFocal, Tag("softmax_focal")]
    | Annotated[QualityFocal, Tag("quality_focal")]
    | Annotated[Varifocal, Tag("varifocal")]
    | Annotated[Asymmetric, Tag("asymmetric")]
    | Annotated[GHM, Tag("ghm")]
    | Annotated[SigmoidPoly1, Tag("poly1")]
    | Annotated[SoftmaxPoly1, Tag("softmax_poly1")]
    | Annotated[Hinge, Tag("hinge")]
    | Annotated[MarginRanking, Tag("margin_ranking")]
    | Annotated[KL, Tag("kl")]
    | Annotated[SigmoidBrier, Tag("brier")]
    | Annotated[SoftmaxBrier, Tag("softmax_brier")]
    | Annotated[Seesaw, Tag("seesaw")]
    | Annotated[Equalization, Tag("equalization")]
    | Annotated[LogitAdjustment, Tag("logit_adjustment")]
    | Annotated[BalancedSoftmax, Tag("balanced_softmax")]
    | Annotated[LDAM, Tag("ldam")]
    | Annotated[OwnPart, Tag(OWN)],
    by_name(*SCHEME_SECTIONS),
]
