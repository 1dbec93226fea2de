"""Triplet mining against plain loops, and the auxiliary loss made of it."""

import pytest
import torch

from dethead.losses.embedding import contrastive, cosine_embedding, ratio, triplet
from dethead.losses.triplets import (
    check_embedding_loss,
    class_embedding_loss,
    mine_triplets,
    single_labels,
)
from dethead.structures import UNKNOWN_CLASS


def batch(count=24, classes=3, dtype=torch.float64):
    """Normalised embeddings and labels, some of them unknown."""
    labels = torch.randint(-1, classes, (count,))
    labels[labels < 0] = UNKNOWN_CLASS
    return torch.nn.functional.normalize(torch.randn(count, 4, dtype=dtype), dim=1), labels


def by_loops(embeddings, labels, how, margin):
    """Every rule word for word."""
    gap = [[float((a - b).norm()) for b in embeddings] for a in embeddings]
    rows = [row for row in range(len(labels)) if labels[row] >= 0]
    found = []
    for a in rows:
        positives = [p for p in rows if p != a and labels[p] == labels[a]]
        negatives = [n for n in rows if labels[n] != labels[a]]
        if how == "hardest" and positives and negatives:
            found.append([a, max(positives, key=gap[a].__getitem__), min(negatives, key=gap[a].__getitem__)])
        elif how == "semi_hard":
            for p in positives:
                between = [n for n in negatives if gap[a][p] < gap[a][n] < gap[a][p] + margin]
                if between:
                    found.append([a, p, min(between, key=gap[a].__getitem__)])
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 3)


@pytest.mark.parametrize("how", ["semi_hard", "hardest"])
@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_the_triplets_are_those_of_the_definition(how, margin):
    for count in (2, 5, 24):
        for _ in range(5):
            embeddings, labels = batch(count)
            mined = mine_triplets(embeddings, labels, how=how, margin=margin)
            assert torch.equal(mined, by_loops(embeddings, labels, how, margin))


@pytest.mark.parametrize("how", ["semi_hard", "hardest"])
class TestMining:
    def test_of_equal_distances_the_first_row_is_taken(self, how):
        embeddings = torch.tensor([[0.0], [1.0], [-1.0], [1.5], [-1.5]])
        mined = mine_triplets(embeddings, torch.tensor([0, 0, 0, 1, 1]), how=how, margin=2.0)
        of_the_first = mined[mined[:, 0] == 0].tolist()
        assert of_the_first == {"hardest": [[0, 1, 3]], "semi_hard": [[0, 1, 3], [0, 2, 3]]}[how]

    @pytest.mark.parametrize(
        "labels", [[], [0], [0, 0, 0], [0, 1, 2], [0, 0, UNKNOWN_CLASS], [-1, -1, -2]], ids=str
    )
    def test_without_a_pair_and_another_class_there_is_no_triplet(self, how, labels):
        mined = mine_triplets(torch.randn(len(labels), 3), torch.tensor(labels).long(), how=how, margin=1.0)
        assert mined.shape == (0, 3)
        assert mined.dtype == torch.int64

    def test_rows_of_unknown_class_are_in_no_triplet(self, how):
        embeddings, labels = batch(60)
        mined = mine_triplets(embeddings, labels, how=how, margin=0.5)
        assert len(mined)
        assert (labels[mined] >= 0).all()

    def test_it_is_not_followed_backwards(self, how):
        embeddings, labels = batch()
        assert not mine_triplets(embeddings.requires_grad_(), labels, how=how, margin=0.5).requires_grad


def test_a_positive_that_is_nearer_than_all_negatives_by_the_margin_gives_no_semi_hard_triplet():
    embeddings, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
    assert len(mine_triplets(embeddings, labels, how="semi_hard", margin=1.0)) == 0


def test_a_negative_as_far_as_the_positive_is_not_semi_hard_but_the_next_one_may_be():
    embeddings, labels = torch.tensor([[0.0], [1.0], [-1.0], [-1.5]]), torch.tensor([0, 0, 1, 1])
    mined = mine_triplets(embeddings, labels, how="semi_hard", margin=1.0)
    assert mined[mined[:, 0] == 0].tolist() == [[0, 1, 3]]


def test_an_unknown_way_of_mining_is_refused():
    with pytest.raises(ValueError, match="mining must be 'semi_hard' or 'hardest', got 'random'"):
        mine_triplets(torch.zeros(0, 2), torch.zeros(0).long(), how="random", margin=1.0)


def test_semi_hard_mining_without_a_margin_is_refused():
    with pytest.raises(ValueError, match="semi-hard negatives lie within the margin"):
        mine_triplets(torch.zeros(0, 2), torch.zeros(0).long(), how="semi_hard", margin=0.0)


def test_a_row_has_a_single_label_if_exactly_one_class_is_above_0():
    targets = torch.tensor([[0, 0, 0.5], [0, 1, 1], [0, 0, 0], [1, 0, 0]])
    known = torch.tensor([True, True, True, False])
    assert single_labels(targets, known).tolist() == [2, UNKNOWN_CLASS, UNKNOWN_CLASS, UNKNOWN_CLASS]
    assert single_labels(torch.zeros(0, 3), torch.zeros(0, dtype=torch.bool)).shape == (0,)


def of_one_triplet(kind, a, p, n, swap):
    a, p, n = a[None], p[None], n[None]
    yes, no = torch.tensor([True]), torch.tensor([False])
    if kind == "ratio":
        return ratio(a, p, n, swap=swap)
    if kind in ("triplet", "margin_ranking"):
        return triplet(a, p, n, margin=0.4, swap=swap)
    pair = cosine_embedding if kind == "cosine_embedding" else contrastive
    return pair(a, p, yes, margin=0.4) + pair(a, n, no, margin=0.4)


@pytest.mark.parametrize("mining", ["semi_hard", "hardest"])
@pytest.mark.parametrize(
    ("kind", "swap"),
    [
        ("triplet", False),
        ("triplet", True),
        ("margin_ranking", False),
        ("ratio", False),
        ("ratio", True),
        ("cosine_embedding", False),
        ("contrastive", False),
    ],
)
class TestClassEmbeddingLoss:
    def test_it_is_the_mean_over_the_triplets_of_each_anchor_value_and_gradient(self, kind, swap, mining):
        embeddings, labels = batch()
        embeddings.requires_grad_()
        ours = class_embedding_loss(embeddings, labels, kind=kind, mining=mining, margin=0.4, swap=swap)
        losses = [[] for _ in labels]
        for a, p, n in mine_triplets(embeddings, labels, how=mining, margin=0.4).tolist():
            losses[a] += [of_one_triplet(kind, embeddings[a], embeddings[p], embeddings[n], swap)]
        wanted = torch.stack([torch.cat(some).mean() if some else torch.zeros(()) for some in losses])
        assert (wanted > 0).any()
        torch.testing.assert_close(ours, wanted.double())
        torch.testing.assert_close(*(torch.autograd.grad(one.sum(), embeddings)[0] for one in (ours, wanted)))

    def test_rows_of_unknown_class_have_no_loss_and_no_gradient(self, kind, swap, mining):
        embeddings, labels = batch()
        embeddings.requires_grad_()
        loss = class_embedding_loss(embeddings, labels, kind=kind, mining=mining, margin=0.4, swap=swap)
        loss.sum().backward()
        assert not loss[labels < 0].any()
        assert not embeddings.grad[labels < 0].any()

    @pytest.mark.parametrize("labels", [[], [0, 0], [UNKNOWN_CLASS] * 3], ids=str)
    def test_without_triplets_it_is_0_and_attached_to_the_graph(self, kind, swap, mining, labels):
        embeddings = torch.randn(len(labels), 4, requires_grad=True)
        labels = torch.tensor(labels).long()
        loss = class_embedding_loss(embeddings, labels, kind=kind, mining=mining, margin=0.4, swap=swap)
        loss.sum().backward()
        assert loss.tolist() == [0] * len(labels)
        assert not embeddings.grad.any()

    def test_equal_embeddings_have_a_finite_loss_and_gradient(self, kind, swap, mining):
        embeddings = torch.ones(6, 4, requires_grad=True)
        labels = torch.tensor([0, 0, 0, 1, 1, 1])
        loss = class_embedding_loss(embeddings, labels, kind=kind, mining=mining, margin=0.4, swap=swap)
        loss.sum().backward()
        assert loss.isfinite().all()
        assert embeddings.grad.isfinite().all()


def test_descent_separates_the_classes():
    embeddings, labels = torch.randn(30, 4), torch.arange(30) % 3
    embeddings.requires_grad_()
    optimiser = torch.optim.SGD([embeddings], lr=2.0)
    for _ in range(60):
        optimiser.zero_grad()
        unit = torch.nn.functional.normalize(embeddings, dim=1)
        class_embedding_loss(unit, labels, kind="triplet", mining="hardest", margin=0.5).mean().backward()
        optimiser.step()
    gaps = torch.cdist(*[torch.nn.functional.normalize(embeddings.detach(), dim=1)] * 2)
    same = labels[:, None] == labels
    assert gaps[same].max() < gaps[~same].min()


def test_of_too_many_rows_some_at_even_steps_are_compared():
    embeddings, labels = torch.randn(100, 4), torch.arange(100) // 2 % 2
    loss = class_embedding_loss(embeddings, labels, kind="triplet", mining="hardest", margin=9.0, max_rows=10)
    assert loss.nonzero().squeeze(1).tolist() == list(range(0, 100, 10))


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"the embedding loss must be one of .*got 'center'"):
        class_embedding_loss(
            torch.zeros(0, 2), torch.zeros(0).long(), kind="center", mining="hardest", margin=1.0
        )


@pytest.mark.parametrize("kind", ["cosine_embedding", "contrastive"])
def test_swap_is_refused_where_pairs_are_compared(kind):
    with pytest.raises(ValueError, match=f"{kind} compares pairs"):
        class_embedding_loss(
            torch.zeros(0, 2), torch.zeros(0).long(), kind=kind, mining="hardest", margin=1.0, swap=True
        )


def test_a_margin_that_no_cosine_reaches_is_refused_before_there_is_a_batch():
    with pytest.raises(ValueError, match=r"cosine_embedding is a cosine, at most 1, got 1\.5"):
        check_embedding_loss("cosine_embedding", "hardest", 1.5, False)


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"embeddings must be \(P, E\) and labels \(P,\), got"):
        class_embedding_loss(
            torch.zeros(3, 2), torch.zeros(2).long(), kind="ratio", mining="hardest", margin=1.0
        )
