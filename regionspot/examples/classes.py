"""A few example regions stand for a class, with or without words of their own.

Against the classes without examples, each class has two prototypes (Snell et al. 2017,
"Prototypical networks for few-shot learning", arXiv 1703.05175): the mean of its examples' region
embeddings and that of the logits of the encoder's own classifier, each L2-normalised before and
after. Their cosines are added to the score of the class's text, whose weight falls with the number
of examples (shrinkage).

Among the classes with examples, this probability is shared out anew by linear discriminants in both
spaces (`regionspot.examples.spaces`). The region embedding tells apart what the head was trained
on, and the encoder's own classifier what is far from it. How much each counts, and the text, is
chosen by the log loss of examples whose image is left out, from a prior by how sure the head is of
its own classes.

Axes: N regions, n examples, K classes, J classes with examples, S classes that the head was trained
on, D text width, M classes of the encoder's own classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from regionspot.boxes import FloatArray
from regionspot.errors import InputError
from regionspot.examples.spaces import DiscriminantSpace
from regionspot.types import (
    ExampleClasses,
    ExampleDiscriminants,
    ImageArray,
    Regions,
    Vocabulary,
)

# With t = n / (n + HALF) for n examples, each weight is (at t = 0, its change up to t = 1). Fitted
# by least log loss over boxes of images of coco_train that the head was not trained on, of the
# classes that it was trained on and of 15 others, which had the examples; with text, boxes of these
# have a weight of 0.8, at which the accuracy of the trained classes does not fall there.
HALF = 3.0
TEXT_WEIGHT = 0.67, -0.49
EMBEDDING_WEIGHT, EMBEDDING_WEIGHT_WITHOUT_TEXT = (-0.11, 0.78), (0.06, 0.70)
LOGITS_WEIGHT, LOGITS_WEIGHT_WITHOUT_TEXT = (0.29, 0.13), (0.39, 0.11)
BIAS, BIAS_WITHOUT_TEXT = (0.17, -0.48), (0.26, -0.62)
# The text of a class that the head was trained on stands for many boxes already: beside it, n
# examples have n / (n + SEEN_HALF) of the effect that they have on a new class. With examples of
# all trained classes, from photos of coco_train that a head was not trained on, top-1 of these
# falls from 59.7 to 59.6, 58.7 and 56.5% at 1, 5 and 20; with their full effect to 42, 45 and 45%.
SEEN_HALF = 60.0

# Logit of class k: (SHARPNESS at t) * (discriminant - MIDDLE at t). Fitted likewise, on boxes of
# coco_train of classes that the head was not trained on, on parts of objects, and on patches of its
# photos on plain ground and in rows; so are the constants below.
SHARPNESS, MIDDLE = (7.0, 13.0), (-0.42, 0.23)
TEXT_SHARPNESS = 14.0  # of the text's score
# The class logits have the weight sigmoid(PRIOR_SLOPE * (entropy - PRIOR_ENTROPY) + offset) beside
# the embedding, by the head's entropy over the classes that it was trained on, in nats. That of a
# class counts as its examples, that of all classes as ENTROPY_PRIOR of them.
PRIOR_SLOPE, PRIOR_ENTROPY, ENTROPY_PRIOR = 4.0, 1.5, 5.0
ENTROPY_SCALE = 20.0  # of the softmax over the trained classes
OFFSETS = torch.arange(-6, 6.25, 0.5)
OFFSET_COST = 0.1  # log loss of an offset of 1
TEXT_SHARES = 1.0, 0.5, 0.0  # of TEXT_SHARPNESS
MOST_COUNTED = 5.0  # examples of a class, in the log loss
# Log loss of one example a class, as a part of that of a guess, where none can be left out.
ONE_EXAMPLE = 0.6
# Off the score of a class with a text, as sharing out raises the best of them. On boxes of
# coco_train, with examples of 17 new classes, trained classes without fall from 62.0 to 61.6% top-1
# at most, and to 60.4% without it.
SHARING_COST = 0.01
# Of the sigmoid of a score: Platt scaling of labels, among all the words of a vocabulary and among
# random halves of them, fitted as SHARPNESS. Its calibration error is 0.03 to 0.05 on the classes
# that the head was not trained on, and 0.14 to 0.16 on patches.
PRESENCE_SCALE, PRESENCE_BIAS = 14.7, -9.0
TINY = 1e-12  # of a squared length
GROUP_SCALE = 20.0  # of scores, in the softmax whose probability is shared out


@dataclass(frozen=True)
class Examples:
    """Boxes that show a class.

    Attributes:
        images: uint8 (H, W, 3) RGB each.
        boxes: for each image, float32 (n, 4) xyxy pixels.
        strings: texts that stand for the class, too; empty: it has none, and its name is no text.
    """

    images: Sequence[ImageArray]
    boxes: Sequence[FloatArray]
    strings: Sequence[str] = ()


@dataclass(frozen=True)
class ExampleRegions:
    """As `Examples`, of regions that the model has computed already.

    Attributes:
        regions: of some images; each row is an example.
        strings: texts that stand for the class, too.
    """

    regions: Sequence[Regions]
    strings: Sequence[str] = ()


WordOrExamples = Sequence[str] | Examples | ExampleRegions


def check_examples(
    groups: Sequence[ExampleRegions | None], names: Sequence[str], width: int
) -> None:
    """Refuse examples that cannot be used.

    Args:
        groups: the examples of each of K classes; None: text alone scores it.
        names: of the classes.
        width: D, of region embeddings.

    Raises:
        InputError: a class has no example, or its regions are those of another model.
    """
    for group, name in zip(groups, names, strict=True):
        if group is None:
            continue
        if not any(len(each.embedding) for each in group.regions):
            raise InputError(f"{name!r} must have at least one example box, got none")
        if any(each.embedding.shape[-1] != width for each in group.regions):
            raise InputError(f"the examples of {name!r} are regions of another model")


def example_classes(
    groups: Sequence[ExampleRegions | None], texts: Sequence[torch.Tensor], vocabulary: Vocabulary
) -> ExampleClasses:
    """How examples score the classes of a vocabulary.

    Args:
        groups: the examples of each of K classes, as `check_examples` takes them.
        texts: of each class with examples, the scores (n, K) of its examples with all texts.
        vocabulary: of the classes.
    """
    K, D = vocabulary.embedding.shape
    novelty = vocabulary.zero_shot.novelty if vocabulary.zero_shot else None
    members = [k for k, group in enumerate(groups) if group]
    every = [each for k in members for each in _group(groups, k).regions]
    with_logits = all(each.class_logits is not None for each in every)
    M = max(
        (each.class_logits.shape[-1] for each in every if each.class_logits is not None), default=0
    )
    M = M if with_logits else 0
    text_weight, bias = torch.ones(K), torch.zeros(K)
    embedding, logits = torch.zeros(K, D), torch.zeros(K, M)
    for k in members:
        group = _group(groups, k)
        count = sum(len(each.embedding) for each in group.regions)
        t, effect = count / (count + HALF), 1.0
        if group.strings and novelty is not None:
            new = float(novelty[k])
            effect = new + (1 - new) * count / (count + SEEN_HALF)
        text_weight[k] = 1 + effect * (_at(TEXT_WEIGHT, t) - 1) if group.strings else 0.0
        weight = EMBEDDING_WEIGHT if group.strings else EMBEDDING_WEIGHT_WITHOUT_TEXT
        prototype = _prototype([each.embedding for each in group.regions])
        embedding[k] = effect * _at(weight, t) * prototype
        if M:
            logits_weight = LOGITS_WEIGHT if group.strings else LOGITS_WEIGHT_WITHOUT_TEXT
            found = [each.class_logits for each in group.regions if each.class_logits is not None]
            logits[k] = effect * _at(logits_weight, t) * _prototype(found)
        bias[k] = effect * _at(BIAS if group.strings else BIAS_WITHOUT_TEXT, t)
    has_examples = torch.zeros(K, dtype=torch.bool)
    has_examples[members] = True
    discriminants = None
    if len(members) > 1:
        having_text = torch.tensor([bool(_group(groups, k).strings) for k in members])
        rows = _rows([_group(groups, k) for k in members], torch.cat(list(texts))[:, members], M)
        seen = vocabulary.zero_shot.seen if vocabulary.zero_shot else None
        discriminants = _discriminants(rows, having_text, seen, members, K)
    return ExampleClasses(text_weight, embedding, logits, bias, has_examples, discriminants)


@dataclass(frozen=True)
class _Rows:
    """The examples of all J classes.

    Attributes:
        embedding: (n, D).
        logits: (n, M); None where the model has none.
        label: (n,) class of each, in [0, J).
        image: (n,) the image of each.
        text: (n, J) scores with the texts.
    """

    embedding: torch.Tensor
    logits: torch.Tensor | None
    label: torch.Tensor
    image: torch.Tensor
    text: torch.Tensor


def _rows(groups: Sequence[ExampleRegions], text: torch.Tensor, M: int) -> _Rows:
    regions = [(k, each) for k, group in enumerate(groups) for each in group.regions]
    counts = torch.tensor([len(each.embedding) for _, each in regions])
    logits = [each.class_logits for _, each in regions if each.class_logits is not None]
    return _Rows(
        torch.cat([each.embedding for _, each in regions]).float(),
        torch.cat(logits).float() if M else None,
        torch.tensor([k for k, _ in regions]).repeat_interleave(counts),
        torch.arange(len(regions)).repeat_interleave(counts),
        text,
    )


def _discriminants(
    rows: _Rows, having_text: torch.Tensor, seen: torch.Tensor | None, members: list[int], K: int
) -> ExampleDiscriminants:
    """The discriminants of the classes, with the weights of spaces and texts chosen.

    Args:
        rows: the examples.
        having_text: (J,) bool.
        seen: (S, D) classes that the head was trained on; None: not known.
        members: J places of the classes among all K.
        K: number of all classes.
    """
    J, D = len(members), rows.embedding.shape[1]
    by_embedding = DiscriminantSpace.of(rows.embedding, rows.label, rows.image)
    by_logits = None
    if rows.logits is not None:
        by_logits = DiscriminantSpace.of(rows.logits, rows.label, rows.image)
    counts = torch.bincount(rows.label).float()  # (J,)
    t = counts / (counts + HALF)
    sharpness, middle = (start + change * t for start, change in (SHARPNESS, MIDDLE))
    text = _centred(rows.text, having_text.float())
    prior = _prior(rows, seen)
    offset, share = _chosen(by_embedding, by_logits, text, prior, sharpness, middle)
    weight = torch.sigmoid(prior + offset) if by_logits else torch.zeros(J)

    def placed(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(K, *values.shape[1:]).index_copy(0, torch.tensor(members), values)

    linear, bias = by_embedding.linear
    bias = (1 - weight) * bias
    logits, centre = torch.zeros(J, 0), torch.zeros(0)
    if by_logits:
        logits, more = by_logits.linear
        logits, centre = (sharpness * weight)[:, None] * logits, by_logits.centre
        bias = bias + weight * more
    return ExampleDiscriminants(
        by_embedding.centre,
        centre,
        placed((sharpness * (1 - weight))[:, None] * linear.view(J, D)),
        placed(logits),
        placed(sharpness * (bias - middle)),
        placed(share * TEXT_SHARPNESS * having_text.float()),
    )


def _prior(rows: _Rows, seen: torch.Tensor | None) -> torch.Tensor:
    """Log odds (J,) of the class logits against the embedding, before examples are left out."""
    counts = torch.bincount(rows.label).float()
    if seen is None:
        return torch.zeros_like(counts)
    cosine = F.normalize(rows.embedding, dim=-1) @ seen.T  # (n, S)
    chance = (ENTROPY_SCALE * cosine).softmax(1)
    entropy = torch.special.entr(chance).sum(1)  # (n,)
    sums = torch.zeros_like(counts).index_add(0, rows.label, entropy)
    mean = (sums / counts).mean()
    of_class = (sums + ENTROPY_PRIOR * mean) / (counts + ENTROPY_PRIOR)
    return PRIOR_SLOPE * (of_class - PRIOR_ENTROPY)


def _chosen(
    by_embedding: DiscriminantSpace,
    by_logits: DiscriminantSpace | None,
    text: torch.Tensor,
    prior: torch.Tensor,
    sharpness: torch.Tensor,
    middle: torch.Tensor,
) -> tuple[float, float]:
    """The offset of the weight of the class logits, and the share of the text's weight.

    First the offset of the least log loss of examples whose image is left out, without the text;
    then the share. Where each class has one image, it is the text's log loss that decides.
    """
    label = by_embedding.label
    counted = torch.bincount(label).float()
    importance = counted.clamp(max=MOST_COUNTED)[label] / counted[label]  # (n,)
    embedding, usable = by_embedding.left_out
    texts = TEXT_SHARPNESS * text  # (n, J)
    if not usable.any():
        loss = _log_loss(texts, label, importance)
        return 0.0, float(loss <= ONE_EXAMPLE * torch.log(torch.tensor(float(len(counted)))))
    label, importance, texts = label[usable], importance[usable], texts[usable]
    logits = by_logits.left_out[0] if by_logits else embedding

    def examples(offset: float) -> torch.Tensor:
        weight = torch.sigmoid(prior + offset)  # (J,)
        return (sharpness * ((1 - weight) * embedding + weight * logits - middle))[usable]

    total = importance.sum()
    offsets = {
        each: float(total * _log_loss(examples(each), label, importance) + OFFSET_COST * each**2)
        for each in (OFFSETS.tolist() if by_logits else [0.0])
    }
    offset = min(offsets, key=lambda each: offsets[each])
    shares = {
        each: float(_log_loss(examples(offset) + each * texts, label, importance))
        for each in TEXT_SHARES
    }
    return offset, min(shares, key=lambda each: shares[each])


def _log_loss(logits: torch.Tensor, label: torch.Tensor, importance: torch.Tensor) -> torch.Tensor:
    """Weighted mean over rows (n, J)."""
    found = F.cross_entropy(logits, label, reduction="none")
    return (importance * found).sum() / importance.sum()


def add_examples(
    scores: torch.Tensor,
    embedding: torch.Tensor,
    class_logits: torch.Tensor | None,
    classes: ExampleClasses,
) -> torch.Tensor:
    """Scores (N, K) of text and examples, from those of the text alone.

    Args:
        scores: (N, K) of the text.
        embedding: (N, D) L2-normalised.
        class_logits: (N, M); None where the model has none.
        classes: of the vocabulary.
    """
    device = scores.device
    logits = None
    if class_logits is not None and classes.logits.shape[-1]:
        logits = F.normalize(class_logits.float(), dim=-1)
    added = embedding @ classes.embedding.to(device).T + classes.bias.to(device)  # (N, K)
    if logits is not None:
        added = added + logits @ classes.logits.to(device).T
    found = classes.text_weight.to(device) * scores + added
    among = classes.discriminants
    if among is None:
        return found
    fine = _logits_among(scores, embedding, logits, among)
    has_examples = classes.has_examples.to(device)
    of_all = (GROUP_SCALE * found).masked_fill(~has_examples, -torch.inf)
    fine = fine.masked_fill(~has_examples, -torch.inf).log_softmax(1)
    shared = (of_all.logsumexp(1, keepdim=True) + fine) / GROUP_SCALE
    has_text = (classes.text_weight > 0).to(device)
    return torch.where(has_examples, shared - SHARING_COST * has_text, found)


def _logits_among(
    scores: torch.Tensor,
    embedding: torch.Tensor,
    logits: torch.Tensor | None,
    among: ExampleDiscriminants,
) -> torch.Tensor:
    """Logits (N, K) among the classes with examples; arguments as of `add_examples`."""
    device = scores.device
    found = _centred_product(embedding, among.embedding_centre.to(device), among.embedding)
    if logits is not None:
        found = found + _centred_product(logits, among.logits_centre.to(device), among.logits)
    found = found + among.bias.to(device)
    weight = among.text_weight.to(device)
    return found + weight.amax() * _centred(scores, (weight > 0).float())


def _centred_product(
    unit: torch.Tensor, centre: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Products (N, K) of weights (K, F) with `unit - centre`, L2-normalised.

    There is no copy of the unit rows (N, F), of which a run has many: of their difference to the
    centre (F,), only the products and the length are computed.
    """
    weights = weights.to(unit.device)
    length = (1 - 2 * unit @ centre + centre @ centre).clamp_min(TINY).sqrt()  # (N,)
    return (unit @ weights.T - weights @ centre) / length[:, None]


def _centred(scores: torch.Tensor, having_text: torch.Tensor) -> torch.Tensor:
    """Scores (N, K) of texts less their mean over the classes that have one; 0 of the others."""
    number = having_text.sum().clamp_min(1)
    return (scores - (scores @ having_text / number)[:, None]) * having_text


def _group(groups: Sequence[ExampleRegions | None], k: int) -> ExampleRegions:
    group = groups[k]
    assert group is not None, "a class with examples"
    return group


def _at(weight: tuple[float, float], t: float) -> float:
    start, change = weight
    return start + change * t


def _prototype(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """The normalised mean (D,) of normalised rows (n, D)."""
    return F.normalize(F.normalize(torch.cat(list(rows)).float(), dim=-1).mean(0), dim=0)
