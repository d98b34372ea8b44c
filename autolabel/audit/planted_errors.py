"""How well `autolabel audit` ranks labels whose words were planted wrong.

    python -m autolabel.audit.planted_errors --run RUN --gt COCO.json [--cleanlab PYTHON]

RUN labels the boxes of the ground truth (`autolabel run COCO.json --boxes COCO.json`). Some of the
ground truth's labels get another word: any other, or the one whose text is nearest. All labels are
ranked by how likely they are wrong: the area under precision-recall is that of the planted ones.

With --cleanlab, a Python that has it, its scores for object detection stand beside these.

Axes: N labels, K words.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from autolabel.audit.audit import AuditedImage, Evidence, collect_evidence, word_suspects
from autolabel.audit.cleanlab_scores import cleanlab_scores
from autolabel.review.label_regions import boxes_of, nearest_boxes
from autolabel.run.manifest import LVIS, read_complete
from autolabel.run.shards import read_shards
from integrations.annotations import LabelledSet
from integrations.failures import reported
from integrations.formats.coco import read_coco
from integrations.formats.lvis import read_lvis
from regionspot import load_model
from regionspot.errors import InputError
from regionspot.scoring import class_probabilities, class_scores

Scores = npt.NDArray[np.float64]  # (N,) the higher, the more likely a label is wrong
RANDOM, CONFUSABLE = "random", "confusable"


@dataclass(frozen=True)
class RankingFigures:
    """A ranking of labels, over all draws of planted errors.

    Attributes:
        errors: `random` or `confusable`.
        ranking: by what.
        labels: number of labels.
        planted: number of those that are wrong.
        area: mean area under precision-recall, as average precision.
        deviation: standard deviation of the area over draws.
    """

    errors: str
    ranking: str
    labels: int
    planted: int
    area: float
    deviation: float


@dataclass(frozen=True)
class PlantedRun:
    """What all draws share.

    Attributes:
        images: of a run, with their ground truth, of which each label has a region.
        words: name of each category of the ground truth by its id.
        model_words: of the run.
        nearest: for each word the one whose text is nearest.
        probabilities: (N, K) of the model, of each label's region.
        columns: of the probabilities, by word.
    """

    images: Sequence[AuditedImage]
    words: Mapping[int, str]
    model_words: Sequence[str]
    nearest: Mapping[str, str]
    probabilities: npt.NDArray[np.float64]
    columns: Mapping[str, int]

    @classmethod
    def of(cls, run: Path, truth: LabelledSet) -> "PlantedRun":
        """Read a complete run over boxes of the ground truth.

        Raises:
            InputError: the run cannot be read, or has none of the boxes.
        """
        manifest = read_complete(run)
        labels_of = {each.file_name: each for each in truth.images}
        by_model = {each.id: each for each in read_lvis(run / LVIS).images}
        images: list[AuditedImage] = []
        for each in read_shards(run, manifest.shards):
            labels = labels_of.get(each.image.file_name)
            if each.skipped or labels is None:
                continue
            shown = nearest_boxes(boxes_of(labels.annotations), each.proposals.boxes)
            kept = tuple(
                label
                for label, (region, _) in zip(labels.annotations, shown, strict=True)
                if region >= 0 and not label.is_crowd
            )
            images.append((each, replace(labels, annotations=kept), by_model.get(each.image.id)))
        words = {each.id: each.name for each in truth.categories}
        evidence = collect_evidence(images, words, manifest.vocabulary["words"])
        if not evidence.labels:
            raise InputError(f"{run} has no region of the ground truth; run it with --boxes")
        options = manifest.options
        model = load_model(options.model, "cpu", options.checkpoint or None)
        names = sorted(set(words.values()))
        vocabulary = model.vocabulary(names)
        scores = np.concatenate(
            [
                class_probabilities(class_scores(each, vocabulary), model.calibration).numpy()
                for each in evidence.regions
            ]
        )
        alike = (vocabulary.embedding @ vocabulary.embedding.T).fill_diagonal_(-1)  # (K, K)
        nearest = {name: names[k] for name, k in zip(names, alike.argmax(1).tolist(), strict=True)}
        columns = {name: k for k, name in enumerate(names)}
        return cls(
            images, words, manifest.vocabulary["words"], nearest, scores.astype(float), columns
        )

    def planted(
        self, errors: str, fraction: float, seed: int
    ) -> tuple[list[AuditedImage], npt.NDArray[np.bool_]]:
        """The images with some words wrong, and which of the labels (N,) these are."""
        generator = random.Random(seed)
        count = sum(len(labels.annotations) for _, labels, _ in self.images)
        chosen = set(generator.sample(range(count), round(fraction * count)))
        ids = {name: id for id, name in self.words.items()}
        number, images = 0, []
        for regions, labels, predicted in self.images:
            changed = []
            for label in labels.annotations:
                if number in chosen:
                    name = self.words[label.category_id]
                    others = [each for each in sorted(ids) if each != name]
                    wrong = generator.choice(others) if errors == RANDOM else self.nearest[name]
                    label = replace(label, category_id=ids[wrong])
                changed.append(label)
                number += 1
            images.append((regions, replace(labels, annotations=tuple(changed)), predicted))
        return images, np.array([row in chosen for row in range(count)], np.bool_)

    def margin_of_label(self, evidence: Evidence) -> Scores:
        """Probability of the best other word less that of the label's, by the model."""
        rows = np.arange(len(evidence.labels))
        own = np.array([self.columns[each.label] for each in evidence.labels])
        others = self.probabilities.copy()
        others[rows, own] = -1
        return np.asarray(others.max(1) - self.probabilities[rows, own], np.float64)


def by_audit(evidence: Evidence) -> Scores:
    """The scores of `autolabel audit`."""
    found = {(each.image_id, each.box, each.label): each.score for each in word_suspects(evidence)}
    return np.array(
        [found.get((each.image_id, each.box, each.label), 0.0) for each in evidence.labels]
    )


def by_margin(evidence: Evidence) -> Scores:
    """The margin of the model's word, smallest first, whatever the label is."""
    return np.array([1 - margin for _, margin in evidence.by_model])


def average_precision(scores: Scores, wrong: npt.NDArray[np.bool_]) -> float:
    """Mean of the precisions at each wrong label; labels of the same score are ranked as one."""
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(wrong[order]), scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each score
    precision, recall = hits[last] / (last + 1), hits[last] / max(1, hits[-1])
    return float((precision * np.diff(recall, prepend=0.0)).sum())


def planted_figures(
    data: PlantedRun, fraction: float, draws: int, seed: int, python: Path | None
) -> Iterator[RankingFigures]:
    """The figures of each ranking, for both kinds of errors.

    Args:
        data: of one run.
        fraction: of the labels that are planted wrong.
        draws: of planted errors.
        seed: of the first draw; the others follow.
        python: that has cleanlab; None: it is left out.
    """
    for errors in (RANDOM, CONFUSABLE):
        areas: dict[str, list[float]] = {}
        wrong = np.zeros(0, np.bool_)
        for draw in range(seed, seed + draws):
            images, wrong = data.planted(errors, fraction, draw)
            evidence = collect_evidence(images, data.words, data.model_words)
            scores = {
                "audit": by_audit(evidence),
                "margin": by_margin(evidence),
                "margin of the label's word": data.margin_of_label(evidence),
            }
            if python is not None:
                scores |= cleanlab_scores(python, images, data.words, data.model_words)
            for name, each in scores.items():
                areas.setdefault(name, []).append(average_precision(each, wrong))
        for name, found in areas.items():
            mean, deviation = float(np.mean(found)), float(np.std(found))
            yield RankingFigures(errors, name, len(wrong), int(wrong.sum()), mean, deviation)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    run: Annotated[Path, typer.Option(help="Folder of a run over boxes of the ground truth.")],
    gt: Annotated[Path, typer.Option(help="Ground truth of its photos, as COCO JSON.")],
    fraction: Annotated[float, typer.Option(help="Of the labels that are planted wrong.")] = 0.1,
    draws: Annotated[int, typer.Option(min=1, help="Of planted errors.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the first draw.")] = 0,
    cleanlab: Annotated[
        Path | None, typer.Option(help="A Python that has cleanlab, to compare with.")
    ] = None,
) -> None:
    """Area under precision-recall of rankings of planted errors, as JSON, one line a ranking."""
    with reported():
        data = PlantedRun.of(run, read_coco(gt))
        for figures in planted_figures(data, fraction, draws, seed, cleanlab):
            typer.echo(json.dumps(asdict(figures)))


if __name__ == "__main__":
    app()
