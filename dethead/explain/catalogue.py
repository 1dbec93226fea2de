"""What every loss is, in a line each: formula, range, targets, source."""

from typing import NamedTuple


class Entry(NamedTuple):
    """One loss. z are logits, t targets, p = softmax(z), s = sigmoid(z); sums run over the classes."""

    formula: str
    range: str
    targets: str
    source: str


ONE = "one label; soft"
SEVERAL = "any labels; soft; background"

CLASS_LOSSES: dict[str, Entry] = {
    "softmax_ce": Entry("-sum t log p", "[0, inf)", ONE, "Bridle 1990; label smoothing: arXiv 1512.00567"),
    "sigmoid_bce": Entry(
        "sum -t log s - (1 - t) log(1 - s)", "[0, inf)", SEVERAL, "YOLOv3, arXiv 1804.02767"
    ),
    "multilabel_softmax": Entry(
        "-sum (t / M) log p, M labels",
        "[log M, inf)",
        "several labels; soft",
        "Joulin et al. 2016, arXiv 1511.02251",
    ),
    "focal": Entry(
        "sum -a t (1 - s)^g log s - (1 - a)(1 - t) s^g log(1 - s)",
        "[0, inf)",
        SEVERAL,
        "Lin et al. 2017, arXiv 1708.02002",
    ),
    "softmax_focal": Entry("-sum t (1 - p)^g log p", "[0, inf)", ONE, "Lin et al. 2017, arXiv 1708.02002"),
    "quality_focal": Entry(
        "sum |t - s|^b BCE(s, t), t the box's quality",
        "[0, inf)",
        SEVERAL,
        "Li et al. 2020, arXiv 2006.04388",
    ),
    "varifocal": Entry(
        "sum t BCE(s, t) where t > 0, else -a s^g log(1 - s)",
        "[0, inf)",
        SEVERAL,
        "Zhang et al. 2021, arXiv 2008.13367",
    ),
    "asymmetric": Entry(
        "sum -t (1 - s)^g+ log s - (1 - t) s'^g- log(1 - s'), s' = max(s - clip, 0)",
        "[0, inf)",
        SEVERAL,
        "Ridnik et al. 2021, arXiv 2009.14119",
    ),
    "ghm": Entry(
        "sum w BCE(s, t), w = 1 / share of answers with a gradient of this size",
        "[0, inf)",
        SEVERAL,
        "Li et al. 2019, arXiv 1811.05181",
    ),
    "poly1": Entry(
        "sum BCE(s, t) + e (1 - q), q = t s + (1 - t)(1 - s)",
        "[0, inf)",
        SEVERAL,
        "Leng et al. 2022, arXiv 2204.12511",
    ),
    "softmax_poly1": Entry(
        "-sum t log p + e sum t (1 - p)", "[0, inf)", ONE, "Leng et al. 2022, arXiv 2204.12511"
    ),
    "hinge": Entry(
        "sum over (or max of) j != y of max(0, m + z_j - z_y), squared or not",
        "[0, inf)",
        "one label",
        "Weston and Watkins 1999; Crammer and Singer 2001",
    ),
    "margin_ranking": Entry(
        "max(0, m + highest wrong z - z_y), wrong ones of the row or of the batch",
        "[0, inf)",
        "one label",
        "Crammer and Singer 2001, JMLR 2",
    ),
    "kl": Entry(
        "T^2 sum t (log t - log softmax(z / T))",
        "[0, inf)",
        ONE,
        "Kullback and Leibler 1951; Hinton et al. 2015, arXiv 1503.02531",
    ),
    "brier": Entry(
        "sum (s - t)^2, |s - t| or smooth L1", "[0, C]", SEVERAL, "Brier 1950, Mon. Weather Rev. 78"
    ),
    "softmax_brier": Entry(
        "sum (p - t)^2, |p - t| or smooth L1", "[0, 2]", ONE, "Brier 1950, Mon. Weather Rev. 78"
    ),
    "seesaw": Entry(
        "-log( exp z_y / (exp z_y + sum M_j C_j exp z_j) )",
        "[0, inf)",
        "one label",
        "Wang et al. 2021, arXiv 2008.10032",
    ),
    "equalization": Entry(
        "BCE, yes and no weighted by the class's gradients so far",
        "[0, inf)",
        SEVERAL,
        "Tan et al. 2021, arXiv 2012.08548",
    ),
    "logit_adjustment": Entry(
        "-sum t log softmax(z + tau log pi), pi the share of each class",
        "[0, inf)",
        ONE,
        "Menon et al. 2021, arXiv 2007.07314",
    ),
    "balanced_softmax": Entry(
        "logit_adjustment with tau = 1", "[0, inf)", ONE, "Ren et al. 2020, arXiv 2007.10740"
    ),
    "ldam": Entry(
        "-log softmax(k (z - m_y at y))_y, m_y = M (n_y / min n)^(-1/4)",
        "[0, inf)",
        ONE,
        "Cao et al. 2019, arXiv 1906.07413",
    ),
}

OTHER_LOSSES: dict[str, dict[str, Entry]] = {
    "box": {
        "smooth_l1": Entry(
            "sum d^2 / 2b below b, else |d| - b / 2", "[0, inf)", "deltas", "Girshick 2015, arXiv 1504.08083"
        ),
        "l1": Entry("sum |d|", "[0, inf)", "deltas", "smooth_l1 with beta 0"),
        "mse": Entry("sum d^2", "[0, inf)", "deltas", "YOLO, arXiv 1506.02640"),
        "iou_squared": Entry("1 - IoU^2", "[0, 1]", "boxes", "YOLOX, arXiv 2107.08430"),
        "giou": Entry(
            "1 - IoU + empty share of the hull",
            "[0, 2)",
            "boxes",
            "Rezatofighi et al. 2019, arXiv 1902.09630",
        ),
        "diou": Entry(
            "1 - IoU + (distance of centres / diagonal of the hull)^2",
            "[0, 2)",
            "boxes",
            "Zheng et al. 2020, arXiv 1911.08287",
        ),
        "ciou": Entry(
            "DIoU + a v, v the difference of the aspect angles",
            "[0, 3)",
            "boxes",
            "Zheng et al. 2020, arXiv 1911.08287",
        ),
    },
    "confidence": {
        "bce": Entry(
            "-t log s - (1 - t) log(1 - s)", "[0, inf)", "0, 1, IoU or quality", "YOLOv3, arXiv 1804.02767"
        ),
        "focal": Entry(
            "BCE with (1 - s)^g and s^g",
            "[0, inf)",
            "0, 1, IoU or quality",
            "Lin et al. 2017, arXiv 1708.02002",
        ),
    },
    "embedding": {
        "triplet": Entry(
            "max(0, d+ - d- + m)", "[0, inf)", "one label", "Balntas et al. 2016, BMVC paper 119"
        ),
        "ratio": Entry(
            "2 (exp d+ / (exp d+ + exp d-))^2", "(0, 2)", "one label", "Balntas et al. 2016, BMVC paper 119"
        ),
        "margin_ranking": Entry("max(0, d+ - d- + m)", "[0, inf)", "distances", "torch.nn.MarginRankingLoss"),
        "cosine_embedding": Entry(
            "1 - cos, or max(0, cos - m)", "[0, 2]", "pairs", "torch.nn.CosineEmbeddingLoss"
        ),
        "contrastive": Entry("d^2 / 2, or max(0, m - d)^2 / 2", "[0, inf)", "pairs", "Hadsell et al. 2006"),
    },
}
