"""Which labels can be accepted after a person has looked at a random sample of them.

The labels of a word are ordered by their score, and a chain of nested sets, each of the labels
above a lower score, is fixed before anybody looks. The hypothesis that more than the allowed share
of a set is wrong is tested from the smallest set on, and the labels are accepted up to the last set
that passes in a row: fixed-sequence testing, which controls the probability of any false promise of
the word without a correction for the number of sets (Angelopoulos et al. 2021, "Learn then test",
arXiv 2110.01052, section 2.3).

Looks sample without replacement, so a set's number of wrong labels is tested by the hypergeometric
likelihood ratio of a mixture of allowed numbers against the smallest number that is not allowed.
Under each number that is not allowed the ratio is a martingale in the order of the sample, hence by
Ville's inequality the test holds at all times at once (Waudby-Smith & Ramdas 2020, "Confidence
sequences for sampling without replacement", arXiv 2006.04347): a person may stop, go on, or review
other labels at any time. Of each set the looks count in one fixed random order, up to the first
label without an answer, which makes the choice of what to look at harmless, too.

Axes: N labels of one group, J sets of its chain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp
from scipy.stats import betabinom

from regionspot.boxes import FloatArray
from regionspot.types import IntArray

POOLED_BELOW = 30  # labels of a word that is accepted by itself
SMALLEST_SET = 20  # labels of a chain's first set, where the group has as many
STEP = 0.1  # of the group's labels, from one set of its chain to the next
EXPECTED_WRONG = 0.01  # mean share of wrong labels in the mixture of allowed numbers
GUESS_WEIGHT = 20.0  # looks that a guess at the share of wrong labels counts as
LEAST_CHANCE = 0.1  # of passing, for looks that are worth while


@dataclass(frozen=True)
class Group:
    """Labels that are accepted together: those of one word, or of all rare words.

    Attributes:
        words: of the group.
        rows: (N,) of the labels, those of the highest score first.
        order: (N,) rank of each in the group's random order.
        sizes: (J,) of the nested sets; each has the first labels of `rows`.
        guess: (J,) expected share of wrong labels in each set. It steers what is looked at, and no
            promise depends on it.
    """

    words: tuple[str, ...]
    rows: IntArray
    order: IntArray
    sizes: IntArray
    guess: FloatArray


@dataclass(frozen=True)
class Verdict:
    """What the answers say of a group.

    Attributes:
        passed: number of its sets that passed in a row.
        accepted: number of labels in the last of them.
    """

    passed: int
    accepted: int


@dataclass(frozen=True)
class NextLooks:
    """Labels to look at.

    Attributes:
        rows: of the labels, in the order in which they were chosen.
        gain: number of labels that would be accepted if they are as right as is expected.
    """

    rows: tuple[int, ...]
    gain: int


def make_groups(
    words: Sequence[str],
    scores: FloatArray,
    probability: FloatArray,
    precision: float,
    seed: int,
) -> list[Group]:
    """A group for each word of 30 labels or more, and one for all rarer words.

    Args:
        words: of each label.
        scores: (labels,) by which they are ordered.
        probability: (labels,) that the label is right, as a model has it; see `Group.guess`.
        precision: that is to be promised.
        seed: of the random order.
    """
    names, inverse, counts = np.unique(np.array(words), return_inverse=True, return_counts=True)
    common = counts >= POOLED_BELOW
    members = {(str(names[k]),): np.flatnonzero(inverse == k) for k in np.flatnonzero(common)}
    if (~common).any():
        rare = tuple(str(name) for name in names[~common])
        members[rare] = np.flatnonzero(~common[inverse])
    random = np.random.default_rng(seed)
    return [
        _group(group, rows, scores, probability, precision, random)
        for group, rows in members.items()
    ]


def _group(
    words: tuple[str, ...],
    rows: IntArray,
    scores: FloatArray,
    probability: FloatArray,
    precision: float,
    random: np.random.Generator,
) -> Group:
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    total = len(rows)
    wrong = np.cumsum(1 - probability[rows]) / np.arange(1, total + 1)
    likely = np.flatnonzero(wrong <= (1 - precision) / 2)
    start = min(max(SMALLEST_SET, int(likely[-1]) + 1 if len(likely) else 0), total)
    step = max(round(STEP * total), 1)
    sizes = [*range(start, total - step // 2, step), total]
    # Labels of one score are accepted together.
    last = np.searchsorted(-scores[rows], -scores[rows][np.array(sizes) - 1], side="right")
    ends = np.unique(last)
    order = np.asarray(random.permutation(total), np.int64)
    return Group(words, rows, order, np.asarray(ends, np.int64), wrong[ends - 1])


def judge(
    group: Group, answers: Mapping[int, bool], precision: float, confidence: float
) -> Verdict:
    """Accept the labels of a group as far as the answers promise the precision.

    With probability `confidence` at least, whatever was looked at and whenever it is asked, the
    share of right labels among the accepted ones is at least `precision`, before those are left out
    that the person found wrong.

    Args:
        group: of labels.
        answers: of each row that a person looked at, whether the label is right.
        precision: share of right labels to promise.
        confidence: of the promise.
    """
    passed = 0
    for looks, wrong, size in _progress(group, answers):
        if not is_promised(size, looks, wrong, precision, confidence):
            break
        passed += 1
    return Verdict(passed, int(group.sizes[passed - 1]) if passed else 0)


def _progress(group: Group, answers: Mapping[int, bool]) -> list[tuple[int, int, int]]:
    """Of each set, the looks that count, those of them that were wrong, and its size."""
    answered = np.array([row in answers for row in group.rows.tolist()], np.bool_)
    wrong = np.array([answers.get(row) is False for row in group.rows.tolist()], np.bool_)
    found = []
    for size in group.sizes.tolist():
        in_order = np.argsort(group.order[:size])
        unanswered = np.flatnonzero(~answered[in_order])
        looks = int(unanswered[0]) if len(unanswered) else size
        found.append((looks, int(wrong[in_order[:looks]].sum()), size))
    return found


@lru_cache(maxsize=1 << 16)
def is_promised(size: int, looks: int, wrong: int, precision: float, confidence: float) -> bool:
    """Whether a random sample promises that enough of a set is right.

    Args:
        size: of the set.
        looks: number of its labels in the sample, which is without replacement.
        wrong: number of these that are wrong.
        precision: share of right labels to promise.
        confidence: of the promise.
    """
    allowed = int((1 - precision) * size + 1e-9)
    if allowed + 1 > size - (looks - wrong):  # so many can no longer be wrong
        return wrong <= allowed
    if wrong > allowed or wrong * size > allowed * looks:
        return False
    numbers = np.arange(allowed + 1)
    weights = -numbers / max(EXPECTED_WRONG * size, 1e-9)
    mixture = logsumexp(weights + _log_likelihood(size, looks, wrong, numbers)) - logsumexp(weights)
    against = _log_likelihood(size, looks, wrong, np.array([allowed + 1]))[0]
    return bool(mixture - against >= -np.log1p(-confidence))


def _log_likelihood(size: int, looks: int, wrong: int, numbers: IntArray) -> FloatArray:
    """Of each number of wrong labels in a set: that so many of the looks are wrong."""
    right = size - numbers
    possible = (numbers >= wrong) & (right >= looks - wrong)
    found = np.full(len(numbers), -np.inf)
    k, r = numbers[possible], right[possible]
    found[possible] = _log_choose(k, wrong) + _log_choose(r, looks - wrong)
    return np.asarray(found - _log_choose(np.array([size]), looks), np.float64)


def _log_choose(total: IntArray, chosen: int) -> npt.NDArray[np.float64]:
    return np.asarray(gammaln(total + 1) - gammaln(chosen + 1) - gammaln(total - chosen + 1))


def next_looks(
    groups: Sequence[Group],
    answers: Mapping[int, bool],
    asked: Sequence[int],
    budget: int,
    precision: float,
    confidence: float,
) -> NextLooks:
    """The labels that are worth most to look at next.

    Each step takes the looks that let a group pass further sets of its chain, of the most labels
    gained a look, weighed by the chance that they suffice.

    Args:
        groups: of `make_groups`.
        answers: as in `judge`.
        asked: rows that were sampled before.
        budget: number of looks at most.
        precision: share of right labels to promise.
        confidence: of the promise.
    """
    looked = set(asked) | set(answers)
    correction = _correction(groups, answers)
    found: list[int] = []
    gain = 0
    options = {
        index: _options(group, answers, correction, precision, confidence)
        for index, group in enumerate(groups)
    }
    while True:
        best: tuple[float, int, int, list[int]] | None = None
        for index, group_options in options.items():
            for position, (rows, gained, chance) in enumerate(group_options):
                new = [row for row in rows if row not in looked]
                if not new or len(new) > budget - len(found) or gained <= len(new):
                    continue
                value = gained * chance / len(new)
                if best is None or value > best[0]:
                    best = value, index, position, new
        if best is None:
            return NextLooks(tuple(found), gain)
        _, index, position, new = best
        found += new
        looked |= set(new)
        gained = options[index][position][1]
        gain += gained
        options[index] = [
            (rows, more - gained, chance)
            for rows, more, chance in options[index]
            if more > gained
        ]


def _correction(groups: Sequence[Group], answers: Mapping[int, bool]) -> float:
    """By how much the guesses at the share of wrong labels are too low, from all answers."""
    wrong = expected = 1.0
    for group in groups:
        looks = sum(row in answers for row in group.rows.tolist())
        wrong += sum(answers.get(row) is False for row in group.rows.tolist())
        expected += looks * float(group.guess[0])
    return wrong / expected


def _options(
    group: Group,
    answers: Mapping[int, bool],
    correction: float,
    precision: float,
    confidence: float,
) -> list[tuple[list[int], int, float]]:
    """For each further set of a chain: rows to look at, labels gained, and the chance to pass."""
    done = judge(group, answers, precision, confidence)
    found: list[tuple[list[int], int, float]] = []
    rows: list[int] = []
    chance = 1.0
    progress = _progress(group, answers)
    for index in range(done.passed, len(progress)):
        looks, wrong, size = progress[index]
        guess = min(float(group.guess[index]) * correction, 0.99)
        needed, likely = _needed(size, looks, wrong, guess, precision, confidence)
        chance = min(chance, likely)
        if chance < LEAST_CHANCE:
            break
        in_order = group.rows[:size][np.argsort(group.order[:size])]
        rows = list(dict.fromkeys([*rows, *in_order[:needed].tolist()]))
        found.append((rows, size - done.accepted, chance))
    return found


def _needed(
    size: int, looks: int, wrong: int, guess: float, precision: float, confidence: float
) -> tuple[int, float]:
    """How many looks let a set pass, with what chance; of several numbers the best a look."""
    if is_promised(size, looks, wrong, precision, confidence):
        return looks, 1.0
    a = guess * GUESS_WEIGHT + wrong
    b = (1 - guess) * GUESS_WEIGHT + looks - wrong
    best = size, 0.0
    for more in range(4):  # further wrong labels
        low, high = looks, size
        if not is_promised(size, high, wrong + more, precision, confidence):
            break
        while low < high:
            middle = (low + high) // 2
            if is_promised(size, middle, wrong + more, precision, confidence):
                high = middle
            else:
                low = middle + 1
        chance = float(betabinom.cdf(more, low - looks, a + 1e-6, b))
        if chance / max(low - looks, 1) > best[1] / max(best[0] - looks, 1):
            best = low, chance
    return best
