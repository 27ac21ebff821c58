import itertools
import logging

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from camera_trap_al.deep_learning.losses import ContrastiveLoss, SoftmaxLoss, TripletLoss, build_loss
from camera_trap_al.deep_learning.miners import TRIPLET_MINERS, euclidean_distances, mine_hard_pairs
from camera_trap_al.exceptions import ConfigError

DTYPES = [torch.float64, torch.float32]
MARGIN = 0.8
METRIC_LOSSES = [TripletLoss(strategy, MARGIN) for strategy in TRIPLET_MINERS] + [ContrastiveLoss(MARGIN)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(seed, dtype=torch.float64, n=14, n_classes=4):
    """Random embeddings; with some seeds a class has one image only."""
    rng = generator(seed)
    embeddings = 0.5 * torch.randn(n, 3, generator=rng, dtype=torch.float64)
    return embeddings.to(dtype), torch.randint(n_classes, (n,), generator=rng)


def distance(embeddings, i, j):
    return sum((float(a) - float(b)) ** 2 for a, b in zip(embeddings[i], embeddings[j], strict=True)) ** 0.5


def eligible_negatives(embeddings, targets, strategy):
    """The negatives that a miner may choose for each anchor and positive, by the definitions and with plain loops."""
    n = len(targets)
    eligible = {}
    for anchor, positive in itertools.permutations(range(n), 2):
        if targets[anchor] != targets[positive]:
            continue
        losses = {
            negative: distance(embeddings, anchor, positive) - distance(embeddings, anchor, negative) + MARGIN
            for negative in range(n)
            if targets[negative] != targets[anchor]
        }
        if strategy == "hardest":
            losses = {negative: loss for negative, loss in losses.items() if loss == max(losses.values())}
        highest = MARGIN if strategy == "semi_hard" else float("inf")
        eligible[anchor, positive] = {negative for negative, loss in losses.items() if 0 < loss < highest}
    return eligible


def mined(strategy, embeddings, targets, rng):
    triplets = TRIPLET_MINERS[strategy](euclidean_distances(embeddings), targets, MARGIN, rng)
    pairs = [tuple(pair) for pair in triplets.is_mined.nonzero().tolist()]
    return {pair: int(triplets.negative[pair]) for pair in pairs}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strategy", TRIPLET_MINERS)
@pytest.mark.parametrize("seed", range(5))
def test_triplet_loss_equals_plain_loops(strategy, seed, dtype):
    embeddings, targets = batch(seed, dtype)
    eligible = eligible_negatives(embeddings, targets, strategy)
    chosen = mined(strategy, embeddings, targets, generator(seed))
    assert chosen.keys() == {pair for pair, negatives in eligible.items() if negatives}
    assert all(negative in eligible[pair] for pair, negative in chosen.items())
    losses = [
        distance(embeddings, anchor, positive) - distance(embeddings, anchor, negative) + MARGIN
        for (anchor, positive), negative in chosen.items()
    ]
    value = TripletLoss(strategy, MARGIN)(embeddings, targets, generator(seed))
    assert value.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert value.active_share.item() == pytest.approx(len(losses) / len(eligible))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(5))
def test_contrastive_loss_equals_plain_loops(seed, dtype):
    embeddings, targets = batch(seed, dtype)
    pairs = list(itertools.combinations(range(len(targets)), 2))
    positive = [distance(embeddings, i, j) for i, j in pairs if targets[i] == targets[j]]
    negative = sorted(distance(embeddings, i, j) for i, j in pairs if targets[i] != targets[j])[: len(positive)]
    terms = [d**2 for d in positive] + [max(0.0, MARGIN - d) ** 2 for d in negative]
    active = [term for term in terms if term > 0]
    value = ContrastiveLoss(MARGIN)(embeddings, targets, generator())
    assert value.loss.item() == pytest.approx(sum(active) / len(active), rel=1e-5)
    assert value.active_share.item() == pytest.approx(len(active) / len(terms))


@pytest.mark.parametrize("loss", [*METRIC_LOSSES, SoftmaxLoss()], ids=str)
def test_no_step_waits_for_a_value(loss):
    """Tensors without values stand for those of a GPU: who asks for one, to decide what to do, gets an error."""
    with FakeTensorMode():
        outputs = torch.empty(14, 5, requires_grad=True)
        value = loss(outputs, torch.empty(14, dtype=torch.int64), generator())
        value.loss.backward()
        assert outputs.grad.shape == (14, 5) and value.active_share.shape == ()


def on_a_line(*places):
    return torch.tensor([[float(place)] for place in places])


def test_hand_worked_triplets():
    # Places 0 and 1 are class 0; 1.5 and 4 are class 1; margin 0.8.
    embeddings, targets = on_a_line(0, 1, 1.5, 4), torch.tensor([0, 0, 1, 1])
    # 0 with 1: nearest negative at 1.5: 1 - 1.5 + 0.8 = 0.3        1 with 0: at 1.5: 1 - 0.5 + 0.8 = 1.3
    # 1.5 with 4: negative at 1: 2.5 - 0.5 + 0.8 = 2.8              4 with 1.5: at 1: 2.5 - 3 + 0.8 = 0.3
    hardest = TripletLoss("hardest", MARGIN)(embeddings, targets, generator())
    assert hardest.loss.item() == pytest.approx((0.3 + 1.3 + 2.8 + 0.3) / 4)
    assert hardest.active_share.item() == 1
    # Further than the positive, by less than 0.8: only the first and the last of these.
    semi_hard = TripletLoss("semi_hard", MARGIN)(embeddings, targets, generator())
    assert semi_hard.loss.item() == pytest.approx(0.3)
    assert semi_hard.active_share.item() == 0.5


def test_hand_worked_pairs():
    # One positive pair (distance 1), so one negative pair: the closest is 1 to 1.5, at 0.5.
    value = ContrastiveLoss(MARGIN)(on_a_line(0, 1, 1.5, 4), torch.tensor([0, 0, 1, 2]), generator())
    assert value.loss.item() == pytest.approx((1**2 + 0.3**2) / 2)
    pairs = mine_hard_pairs(euclidean_distances(on_a_line(0, 1, 1.5, 4)), torch.tensor([0, 0, 1, 2]))
    assert [(i.item(), j.item()) for i, j in zip(pairs.first, pairs.second, strict=True)][3] == (1, 2)
    assert pairs.is_positive.tolist() == [True, False, False, False, False, False]
    assert pairs.is_negative.tolist() == [False, False, False, True, False, False]


def test_negatives_exactly_on_the_bounds_are_not_mined():
    # Anchor 0, positive 1, margin 1: a negative at 2 has loss 0; one at 1 has a loss as large as the margin.
    distances, targets = euclidean_distances(on_a_line(0, 1, 2)), torch.tensor([0, 0, 1])
    for strategy in TRIPLET_MINERS:
        assert not TRIPLET_MINERS[strategy](distances, targets, 1.0, generator()).is_mined[0, 1]
    distances = euclidean_distances(on_a_line(0, 1, -1))
    assert not TRIPLET_MINERS["semi_hard"](distances, targets, 1.0, generator()).is_mined[0, 1]
    assert TRIPLET_MINERS["random"](distances, targets, 1.0, generator()).is_mined[0, 1]


@pytest.mark.parametrize("strategy", ["random", "semi_hard"])
def test_every_eligible_negative_is_drawn_equally_often(strategy):
    embeddings, targets = batch(1)
    eligible = eligible_negatives(embeddings, targets, strategy)
    pair = max(eligible, key=lambda pair: len(eligible[pair]))
    rng, n_draws = generator(), 2000
    drawn = [mined(strategy, embeddings, targets, rng)[pair] for _ in range(n_draws)]
    assert set(drawn) == eligible[pair] and len(eligible[pair]) > 2
    expected = n_draws / len(eligible[pair])
    spread = expected**0.5  # of a count, by Poisson's law
    assert all(abs(drawn.count(negative) - expected) < 5 * spread for negative in eligible[pair])


@pytest.mark.parametrize("strategy", ["random", "semi_hard"])
def test_the_generator_decides_the_draw_and_the_global_one_is_left_alone(strategy):
    embeddings, targets = batch(2)
    before = torch.random.get_rng_state()
    one, same, other = (mined(strategy, embeddings, targets, generator(seed)) for seed in (1, 1, 2))
    assert one == same and one != other
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("loss", METRIC_LOSSES, ids=str)
@pytest.mark.parametrize("targets", [[3], [3, 3, 3, 3], [0, 1, 2, 3]], ids=["one image", "one class", "no pair"])
def test_nothing_to_compare_gives_zero_and_zero_gradients(loss, targets):
    embeddings = torch.randn(len(targets), 6, generator=generator(), requires_grad=True)
    value = loss(embeddings, torch.tensor(targets), generator())
    value.loss.backward()
    assert value.loss.item() == 0 and value.active_share.item() == 0
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


@pytest.mark.parametrize("loss", METRIC_LOSSES, ids=str)
def test_duplicate_embeddings_have_finite_gradients(loss):
    embeddings = torch.randn(4, 6, generator=generator()).repeat(3, 1).requires_grad_()
    value = loss(embeddings, torch.tensor([0, 1, 2, 0] * 2 + [1, 1, 0, 0]), generator())
    value.loss.backward()
    assert torch.isfinite(value.loss) and torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("loss", METRIC_LOSSES, ids=str)
def test_gradient_is_that_of_finite_differences(loss):
    embeddings, targets = batch(3)
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, targets, generator()).loss, (embeddings,))


@pytest.mark.parametrize("loss", METRIC_LOSSES, ids=str)
def test_training_on_embeddings_separates_the_classes(loss):
    embeddings, targets = batch(4)
    embeddings.requires_grad_()
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    rng = generator()
    first = loss(embeddings, targets, rng)
    for _ in range(300):
        optimizer.zero_grad()
        value = loss(embeddings, targets, rng)
        value.loss.backward()
        optimizer.step()
    assert value.loss < 0.3 * first.loss
    distances = euclidean_distances(embeddings.detach()).fill_diagonal_(torch.inf)
    assert torch.equal(targets[distances.argmin(dim=1)], targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_are_compared_in_single_precision(dtype):
    embeddings, targets = batch(0, dtype)
    value = TripletLoss("hardest", MARGIN)(embeddings, targets, generator())
    assert value.loss.dtype == torch.float32
    assert value.loss.item() == pytest.approx(
        TripletLoss("hardest", MARGIN)(embeddings.float(), targets, generator()).loss.item()
    )


def test_distances_of_near_duplicates_are_not_lost():
    # Far from the origin and 0.01 apart: distances over dot products would lose this to rounding.
    embeddings = torch.full((30, 64), 10.0)
    embeddings[1:, 0] += 0.01 * torch.arange(1, 30)
    expected = embeddings[:, 0].double()
    assert torch.allclose(euclidean_distances(embeddings)[0].double(), (expected - expected[0]).abs(), rtol=1e-3)


def test_softmax_loss_is_cross_entropy():
    rng = generator()
    scores, targets = torch.randn(9, 4, generator=rng), torch.randint(4, (9,), generator=rng)
    value = SoftmaxLoss()(scores, targets, generator())
    expected = -torch.log(torch.exp(scores)[range(9), targets] / torch.exp(scores).sum(dim=1)).mean()
    assert torch.allclose(value.loss, expected)
    assert torch.allclose(value.loss, F.cross_entropy(scores, targets))
    assert value.active_share.item() == 1


def test_settings_name_the_losses(caplog):
    with caplog.at_level(logging.WARNING):
        assert build_loss("softmax", "no such strategy", -1.0) == SoftmaxLoss()
        assert build_loss("triplet", "semi_hard", 0.5) == TripletLoss("semi_hard", 0.5)
        assert build_loss("siamese", "hard_pair", 0.5) == ContrastiveLoss(0.5)
    assert not caplog.records


def test_siamese_with_another_strategy_is_triplet_loss_and_a_warning_says_so(caplog):
    assert build_loss("siamese", "hardest", 0.5) == TripletLoss("hardest", 0.5)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "hard_pair" in record.message and "triplet" in record.message


@pytest.mark.parametrize(
    "settings, named",
    [
        (("triplet", "hard_pair", 1.0), "embedding_loss_data_strategy.*siamese"),
        (("triplet", "easiest", 1.0), "embedding_loss_data_strategy.*'easiest'"),
        (("hinge", "random", 1.0), "embedding_loss_type.*'hinge'"),
        (("triplet", "random", 0.0), "embedding_loss_margin.*0"),
        (("siamese", "hard_pair", float("nan")), "embedding_loss_margin.*nan"),
    ],
)
def test_settings_that_mean_no_loss_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        build_loss(*settings)


@pytest.mark.parametrize("loss", [*METRIC_LOSSES, SoftmaxLoss()], ids=str)
def test_no_step_needs_a_result_on_the_host(loss):
    # Tensors of the meta device have no values: reading one, or a size that depends on one, is an error there.
    embeddings = torch.empty(8, 3, device="meta", requires_grad=True)
    value = loss(embeddings, torch.empty(8, dtype=torch.int64, device="meta"), generator())
    value.loss.backward()
    assert embeddings.grad.shape == (8, 3) and value.active_share.shape == ()


@pytest.mark.gpu
@pytest.mark.parametrize("loss", METRIC_LOSSES, ids=str)
def test_cuda_gives_the_loss_and_gradient_of_the_cpu(loss):
    embeddings, targets = batch(0, torch.float32)
    on_cpu, on_gpu = embeddings.clone().requires_grad_(), embeddings.cuda().requires_grad_()
    expected, value = loss(on_cpu, targets, generator(1)), loss(on_gpu, targets.cuda(), generator(1))
    expected.loss.backward()
    value.loss.backward()
    assert value.loss.item() == pytest.approx(expected.loss.item(), rel=1e-4)
    assert torch.allclose(on_gpu.grad.cpu(), on_cpu.grad, atol=1e-5)
    assert torch.isfinite(loss(on_gpu, targets.cuda(), torch.Generator("cuda").manual_seed(0)).loss)
