"""Which labels can be accepted, at a stated precision, after a person reviewed a sample of them.

The labels of a word are ordered by their score, and a chain of nested sets, each of the labels
above a lower score, is fixed before anybody reviews. The null hypothesis that a set has a lower
precision is tested from the smallest set on, and the labels are accepted up to the last set before
the first that cannot be rejected: fixed-sequence testing, which controls the probability of any
false rejection in the chain without a correction for the number of sets (Angelopoulos et al. 2021,
"Learn then test", arXiv 2110.01052, section 2.3).

A sample is drawn without replacement, so a set's number of wrong labels is tested by the
hypergeometric likelihood ratio of a mixture of allowed numbers against the smallest number that is
not allowed. Under each number that is not allowed the ratio is at most a martingale in the order of
the sample, hence by Ville's inequality the test holds at all sample sizes at once (Waudby-Smith &
Ramdas 2020, "Confidence sequences for sampling without replacement", arXiv 2006.04347). A bound for
one fixed size (Clopper-Pearson) would not hold for a person who stops, continues, or reviews other
labels at any time. The decisions on a set count in one fixed random order, up to the first label
without one, so that the choice of what to review cannot bias the test.

Axes: N labels of one group, J sets of its chain.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from regionspot.types import IntArray

Decisions = Mapping[int, bool]  # of each reviewed row, whether the label is right

POOLED_BELOW = 30  # labels of a word that is accepted by itself
SMALLEST_SET = 20  # labels of a chain's first set, where the group has as many
STEP = 0.1  # of the group's labels, from one set of its chain to the next
EXPECTED_WRONG = 0.01  # mean error rate in the mixture of allowed numbers
PRIOR_SIZE = 20.0  # reviewed labels that the expected error rate counts as
LEAST_CHANCE = 0.1  # of passing, for a set whose labels are sampled
# Log odds that a label is right are RIGHT_SLOPE * (score - EVEN_SCORE): of the labels of a run over
# photos of coco_train that the head was not trained on. It chooses what is sampled; no guarantee
# depends on it.
RIGHT_SLOPE, EVEN_SCORE = 11.0, 0.43
PILOT = 10  # labels of a group that are sampled where no set is expected to pass


@dataclass(frozen=True)
class Group:
    """Labels that are accepted together: those of one word, or of all rare words.

    Attributes:
        words: of the group.
        rows: (N,) of the labels, those of the highest score first.
        order: (N,) rank of each in the group's random order.
        sizes: (J,) of the nested sets; each has the first labels of `rows`.
        expected: (J,) error rate of each set, as the scores have it.
    """

    words: tuple[str, ...]
    rows: IntArray
    order: IntArray
    sizes: IntArray
    expected: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Acceptance:
    """What the decisions on a group's labels let accept.

    Attributes:
        passed: number of its sets that passed in a row.
        accepted: number of labels in the last of them.
    """

    passed: int
    accepted: int


@dataclass(frozen=True)
class SamplePlan:
    """Labels to review.

    Attributes:
        rows: of the labels, in the order in which they were chosen.
        gain: number of further labels that are accepted if the error rate is as expected.
    """

    rows: tuple[int, ...]
    gain: int


def make_groups(
    words: Sequence[str],
    scores: npt.NDArray[np.float64],
    precision: float,
    seed: int,
) -> list[Group]:
    """A group for each word of 30 labels or more, and one for all rarer words.

    Args:
        words: of each label.
        scores: (labels,) confidence in [0, 1], by which they are ordered.
        precision: that is to be guaranteed.
        seed: of the random order.
    """
    names, inverse, counts = np.unique(np.array(words), return_inverse=True, return_counts=True)
    common = counts >= POOLED_BELOW
    members: dict[tuple[str, ...], IntArray] = {}
    members |= {(str(names[k]),): np.flatnonzero(inverse == k) for k in np.flatnonzero(common)}
    if (~common).any():
        rare = tuple(str(name) for name in names[~common])
        members[rare] = np.flatnonzero(~common[inverse])
    random = np.random.default_rng(seed)
    return [_group(group, rows, scores, precision, random) for group, rows in members.items()]


def _group(
    words: tuple[str, ...],
    rows: IntArray,
    scores: npt.NDArray[np.float64],
    precision: float,
    random: np.random.Generator,
) -> Group:
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    total = len(rows)
    odds = np.exp(RIGHT_SLOPE * (scores[rows] - EVEN_SCORE))
    wrong = np.cumsum(1 / (1 + odds)) / np.arange(1, total + 1)
    likely = np.flatnonzero(wrong <= (1 - precision) / 2)
    start = min(max(SMALLEST_SET, int(likely[-1]) + 1 if len(likely) else 0), total)
    step = max(round(STEP * total), 1)
    sizes = [*range(start, total - step // 2, step), total]
    # Labels of one score are accepted together.
    last = np.searchsorted(-scores[rows], -scores[rows][np.array(sizes) - 1], side="right")
    ends = np.unique(last)
    order = np.asarray(random.permutation(total), np.int64)
    return Group(words, rows, order, np.asarray(ends, np.int64), wrong[ends - 1])


def accept_group(
    group: Group, decisions: Decisions, precision: float, confidence: float
) -> Acceptance:
    """Accept the labels of a group as far as the decisions guarantee the precision.

    With probability `confidence` at least, whatever was reviewed and whenever it is computed, the
    proportion of right labels among the accepted ones is at least `precision`, before those are
    left out that the person found wrong.

    Args:
        group: of labels.
        decisions: of each row that a person reviewed, whether the label is right.
        precision: proportion of right labels to guarantee.
        confidence: of the guarantee.
    """
    passed = 0
    for reviewed, wrong, size in _progress(group, decisions):
        if not is_guaranteed(size, reviewed, wrong, precision, confidence):
            break
        passed += 1
    return Acceptance(passed, int(group.sizes[passed - 1]) if passed else 0)


def accepted_rows(group: Group, accepted: int, decisions: Decisions) -> list[int]:
    """Rows of a group that are accepted: of its first ones those that nobody found wrong, and all
    that a person found right, whose precision is 1.

    Args:
        group: of labels.
        accepted: number of its first labels whose precision is guaranteed.
        decisions: as in `accept_group`.
    """
    rows = group.rows.tolist()
    guaranteed = [row for row in rows[:accepted] if decisions.get(row) is not False]
    return guaranteed + [row for row in rows[accepted:] if decisions.get(row)]


def _progress(group: Group, decisions: Decisions) -> list[tuple[int, int, int]]:
    """Of each set, the number of decisions that count, of wrong labels among them, and its size."""
    has_decision = np.array([row in decisions for row in group.rows.tolist()], np.bool_)
    wrong = np.array([decisions.get(row) is False for row in group.rows.tolist()], np.bool_)
    found = []
    for size in group.sizes.tolist():
        in_order = np.argsort(group.order[:size])
        undecided = np.flatnonzero(~has_decision[in_order])
        reviewed = int(undecided[0]) if len(undecided) else size
        found.append((reviewed, int(wrong[in_order[:reviewed]].sum()), size))
    return found


@lru_cache(maxsize=1 << 16)
def is_guaranteed(
    size: int, reviewed: int, wrong: int, precision: float, confidence: float
) -> bool:
    """Whether a random sample guarantees the precision of a set.

    Args:
        size: of the set.
        reviewed: number of its labels in the sample, which is without replacement.
        wrong: number of these that are wrong.
        precision: proportion of right labels to guarantee.
        confidence: of the guarantee.
    """
    allowed = int((1 - precision) * size + 1e-9)
    if allowed + 1 > size - (reviewed - wrong):  # so many can no longer be wrong
        return wrong <= allowed
    if wrong > allowed or wrong * size > allowed * reviewed:
        return False
    numbers = np.arange(allowed + 1)
    weights = -numbers / max(EXPECTED_WRONG * size, 1e-9)
    likelihood = _log_likelihood(size, reviewed, wrong, numbers)
    mixture = np.logaddexp.reduce(weights + likelihood) - np.logaddexp.reduce(weights)
    against = _log_likelihood(size, reviewed, wrong, np.array([allowed + 1]))[0]
    return bool(mixture - against >= -np.log1p(-confidence))


def _log_likelihood(
    size: int, reviewed: int, wrong: int, numbers: IntArray
) -> npt.NDArray[np.float64]:
    """Log likelihood of the wrong labels in a sample, for each number of them in the set."""
    right = size - numbers
    possible = (numbers >= wrong) & (right >= reviewed - wrong)
    found = np.full(len(numbers), -np.inf)
    k, r = numbers[possible], right[possible]
    found[possible] = _log_choose(k, wrong) + _log_choose(r, reviewed - wrong)
    return np.asarray(found - _log_choose(np.array([size]), reviewed), np.float64)


def _log_choose(total: IntArray, chosen: int) -> npt.NDArray[np.float64]:
    ways = _log_factorial(total) - _log_factorial(total - chosen)
    return np.asarray(ways - math.lgamma(chosen + 1), np.float64)


def _log_factorial(numbers: IntArray) -> npt.NDArray[np.float64]:
    return np.asarray(torch.lgamma(torch.from_numpy(numbers + 1).double()).numpy(), np.float64)


def plan_sample(
    groups: Sequence[Group],
    decisions: Decisions,
    sampled: Sequence[int],
    budget: int,
    precision: float,
    confidence: float,
) -> SamplePlan:
    """The labels whose review is expected to accept the most further labels.

    Each step takes those that let a group pass further sets of its chain, of the largest expected
    number of accepted labels for each one that is reviewed (greedy). Where the model expects that
    nothing can be accepted and nobody reviewed a label yet, the plan is a few labels of the first
    set of each group: the model may be wrong.

    Args:
        groups: of `make_groups`.
        decisions: as in `accept_group`.
        sampled: rows that were sampled before.
        budget: maximum number of further labels.
        precision: proportion of right labels to guarantee.
        confidence: of the guarantee.
    """
    known = set(sampled) | set(decisions)
    correction = _correction(groups, decisions)
    found: list[int] = []
    gain = 0
    options = {
        index: _options(group, decisions, correction, precision, confidence)
        for index, group in enumerate(groups)
    }
    while True:
        best: tuple[float, int, int, list[int]] | None = None
        for index, group_options in options.items():
            for position, (rows, gained, chance) in enumerate(group_options):
                new = [row for row in rows if row not in known]
                if not new or len(new) > budget - len(found) or gained <= len(new):
                    continue
                value = gained * chance / len(new)
                if best is None or value > best[0]:
                    best = value, index, position, new
        if best is None:
            return SamplePlan(tuple(found), gain) if found or known else _pilot(groups, budget)
        _, index, position, new = best
        found += new
        known |= set(new)
        gained = options[index][position][1]
        gain += gained
        options[index] = [
            (rows, more - gained, chance) for rows, more, chance in options[index] if more > gained
        ]


def _pilot(groups: Sequence[Group], budget: int) -> SamplePlan:
    """Labels of the first set of each group, those of many labels first."""
    rows: list[int] = []
    for group in sorted(groups, key=lambda each: -len(each.rows)):
        first = group.rows[: group.sizes[0]]
        rows += first[np.argsort(group.order[: group.sizes[0]])][:PILOT].tolist()
    return SamplePlan(tuple(rows[:budget]), 0)


def _correction(groups: Sequence[Group], decisions: Decisions) -> float:
    """Factor of the expected error rates, from all decisions."""
    wrong = expected = 1.0
    for group in groups:
        reviewed = sum(row in decisions for row in group.rows.tolist())
        wrong += sum(decisions.get(row) is False for row in group.rows.tolist())
        expected += reviewed * float(group.expected[0])
    return wrong / expected


def _options(
    group: Group,
    decisions: Decisions,
    correction: float,
    precision: float,
    confidence: float,
) -> list[tuple[list[int], int, float]]:
    """For each further set of a chain: rows to review, labels gained, and the chance to pass."""
    done = accept_group(group, decisions, precision, confidence)
    found: list[tuple[list[int], int, float]] = []
    rows: list[int] = []
    chance = 1.0
    progress = _progress(group, decisions)
    for index in range(done.passed, len(progress)):
        reviewed, wrong, size = progress[index]
        expected_rate = min(float(group.expected[index]) * correction, 0.99)
        needed, likely = _needed(size, reviewed, wrong, expected_rate, precision, confidence)
        chance = min(chance, likely)
        if chance < LEAST_CHANCE:
            break
        in_order = group.rows[:size][np.argsort(group.order[:size])]
        rows = list(dict.fromkeys([*rows, *in_order[:needed].tolist()]))
        found.append((rows, size - done.accepted, chance))
    return found


def _needed(
    size: int, reviewed: int, wrong: int, expected_rate: float, precision: float, confidence: float
) -> tuple[int, float]:
    """Sample size at which a set passes, and with what chance; of several the most efficient."""
    if is_guaranteed(size, reviewed, wrong, precision, confidence):
        return reviewed, 1.0
    a = expected_rate * PRIOR_SIZE + wrong
    b = (1 - expected_rate) * PRIOR_SIZE + reviewed - wrong
    best = size, 0.0
    for more in range(4):  # further wrong labels
        low, high = reviewed, size
        if not is_guaranteed(size, high, wrong + more, precision, confidence):
            break
        while low < high:
            middle = (low + high) // 2
            if is_guaranteed(size, middle, wrong + more, precision, confidence):
                high = middle
            else:
                low = middle + 1
        chance = _chance_of_few(more, low - reviewed, a + 1e-6, b + 1e-6)
        if chance / max(low - reviewed, 1) > best[1] / max(best[0] - reviewed, 1):
            best = low, chance
    return best


def _chance_of_few(most: int, size: int, a: float, b: float) -> float:
    """Probability that at most `most` of `size` further labels are wrong (beta-binomial)."""
    prior = _log_beta(a, b)
    return sum(
        math.exp(math.log(math.comb(size, k)) + _log_beta(k + a, size - k + b) - prior)
        for k in range(min(most, size) + 1)
    )


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
