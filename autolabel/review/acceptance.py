"""`autolabel accept`: labels of a run that have a stated precision, from a reviewed sample of them.

A label's number is its position in the run's label files, from 1. `acceptance.json` in the run
folder holds which labels were sampled and which are accepted; decisions are read anew each time,
from FiftyOne or, of a run without labels there, from `acceptance.csv`.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from autolabel.options import validated
from autolabel.review.app import complete_run
from autolabel.review.risk_control import (
    POOLED_BELOW,
    Group,
    accept_group,
    accepted_rows,
    make_groups,
    plan_sample,
)
from autolabel.run.images import ImageRef
from autolabel.run.manifest import LVIS, Manifest, locked, read_complete
from autolabel.run.outputs import as_sample, label_field
from autolabel.run.shards import read_shards
from integrations.annotations import Annotation, LabelledImage, LabelledSet
from integrations.fiftyone.acceptance import mark_acceptance, read_decisions
from integrations.fiftyone.dataset import Sample, save_selection
from integrations.fiftyone.labels import ACCEPTED, TO_REVIEW
from integrations.formats.lvis import read_lvis
from integrations.text import csv_cell
from regionspot.errors import InputError
from regionspot.files import atomic_write, read_text

STATE, SHEET = "acceptance.json", "acceptance.csv"
VIEW = "to review"  # the field's name follows
BUDGET = 300
COLUMNS = ("number", "image", "x1", "y1", "x2", "y2", "word", "score", "right")
_ANSWERS = dict.fromkeys(("yes", "y", "true", "1", "right"), True) | dict.fromkeys(
    ("no", "n", "false", "0", "wrong"), False
)


@dataclass(frozen=True, kw_only=True)
class GroupAcceptance:
    """Labels of a word, or of all rare words together.

    Attributes:
        words: of the group; several are rare words that are accepted together.
        labels: number of its labels.
        reviewed: number of labels that a person decided on.
        wrong: number of these that are wrong.
        accepted: number of accepted labels.
        lowest_score: confidence down to which labels that nobody reviewed are accepted; None: none
            are.
    """

    words: tuple[str, ...]
    labels: int
    reviewed: int
    wrong: int
    accepted: int
    lowest_score: float | None

    @property
    def is_pooled(self) -> bool:
        """Whether it holds rare words, and not one with labels enough."""
        return len(self.words) > 1 or self.labels < POOLED_BELOW


@dataclass(frozen=True, kw_only=True)
class AcceptanceState:
    """The content of `acceptance.json`.

    Attributes:
        precision: proportion of right labels that is guaranteed among the accepted ones of a group.
        confidence: of the guarantee, for each group.
        labels_sha256: of the label file whose labels have these numbers.
        sampled: numbers of the labels to review, in the order in which they were sampled.
        accepted: numbers of the accepted labels: those that the precision is guaranteed of, without
            those that were found wrong, and those that were found right.
        groups: what was decided and accepted.
    """

    precision: float
    confidence: float
    labels_sha256: str
    sampled: tuple[int, ...] = ()
    accepted: tuple[int, ...] = ()
    groups: tuple[GroupAcceptance, ...] = ()


@dataclass(frozen=True)
class Accepted:
    """What `accept_run` did.

    Attributes:
        state: as it was written.
        labels: number of the run's labels.
        open: number of sampled labels that nobody decided on.
        more: number of further labels whose review is expected to accept `gain` more; 0: none are.
        gain: that number of labels.
        review: name of FiftyOne's view of the sample, or path of the file to fill in.
    """

    state: AcceptanceState
    labels: int
    open: int
    more: int
    gain: int
    review: str


@dataclass
class _Labels:
    """All labels of a run, one after another.

    Attributes:
        data: of the label file.
        flat: each label and its image, by number less 1.
        decisions: by row.
    """

    data: LabelledSet
    flat: list[tuple[LabelledImage, Annotation]] = field(default_factory=list)
    decisions: dict[int, bool] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of category 1, 2, ..."""
        return [each.name for each in self.data.categories]

    def word(self, row: int) -> str:
        """The word of a label."""
        return self.data.categories[self.flat[row][1].category_id - 1].name


def accept_run(
    folder: Path, precision: float = 0.95, confidence: float = 0.95, budget: int = BUDGET
) -> Accepted:
    """Read what a person decided, accept labels, and sample labels to review.

    Args:
        folder: of a complete run.
        precision: proportion of right labels to guarantee among the accepted ones of each group.
        confidence: of the guarantee, for each group.
        budget: number of labels to sample at most, those sampled before included.

    Raises:
        InputError: no such run, an option out of range, or a file of decisions that is wrong.
    """
    for name, value in (("--precision", precision), ("--confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"{name} must be above 0 and below 1, got {value}")
    manifest = read_complete(folder)
    if manifest.fiftyone is not None:
        manifest = complete_run(folder)
    with locked(folder):
        earlier = read_state(folder, manifest)
        labels = _read(folder, manifest)
        done, groups = _accept(labels, earlier, precision, confidence, manifest, budget)
        spare = plan_sample(
            groups, labels.decisions, _rows(done.sampled), BUDGET, precision, confidence
        )
        review = _write(folder, manifest, labels, done)
    waiting = sum(row not in labels.decisions for row in _rows(done.sampled))
    return Accepted(done, len(labels.flat), waiting, len(spare.rows), spare.gain, review)


def _rows(numbers: Sequence[int]) -> list[int]:
    return [number - 1 for number in numbers]


def _accept(
    labels: _Labels,
    earlier: AcceptanceState | None,
    precision: float,
    confidence: float,
    manifest: Manifest,
    budget: int,
) -> tuple[AcceptanceState, list[Group]]:
    """The next state, and the groups of labels."""
    words = [labels.word(row) for row in range(len(labels.flat))]
    scores = np.array([each.score or 0.0 for _, each in labels.flat], np.float64)
    sha256 = manifest.files[LVIS]
    seed = int(sha256[:16], 16)  # a run has one random order, however often it is asked for
    groups = make_groups(words, scores, precision, seed)
    sampled = list(earlier.sampled) if earlier else []
    room = budget - len(sampled)
    if room > 0 and all(row in labels.decisions for row in _rows(sampled)):
        plan = plan_sample(groups, labels.decisions, _rows(sampled), room, precision, confidence)
        sampled += [row + 1 for row in plan.rows]
    accepted: list[int] = []
    found = []
    for group in groups:
        count = accept_group(group, labels.decisions, precision, confidence).accepted
        rows = group.rows.tolist()
        kept = accepted_rows(group, count, labels.decisions)
        accepted += [row + 1 for row in kept]
        found.append(
            GroupAcceptance(
                words=group.words,
                labels=len(rows),
                reviewed=sum(row in labels.decisions for row in rows),
                wrong=sum(labels.decisions.get(row) is False for row in rows),
                accepted=len(kept),
                lowest_score=round(float(scores[rows[count - 1]]), 6) if count else None,
            )
        )
    state = AcceptanceState(
        precision=precision,
        confidence=confidence,
        labels_sha256=sha256,
        sampled=tuple(sampled),
        accepted=tuple(sorted(accepted)),
        groups=tuple(found),
    )
    return state, groups


def read_state(folder: Path, manifest: Manifest) -> AcceptanceState | None:
    """The state that `accept` wrote; None where it wrote none, or the run was made again since.

    Raises:
        InputError: the file cannot be read or is wrong.
    """
    path = folder / STATE
    if not path.exists():
        return None
    mend = f"delete it and run `autolabel accept {folder}` again"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {mend}") from error
    try:
        state = validated(AcceptanceState, text, lambda name: f"{path}: {name}")
    except InputError as error:
        raise InputError(f"{error}; {mend}") from error
    return state if state.labels_sha256 == manifest.files.get(LVIS) else None


def accepted_numbers(folder: Path, manifest: Manifest) -> frozenset[int]:
    """Numbers of the accepted labels of a run.

    Raises:
        InputError: its labels were not accepted yet.
    """
    state = read_state(folder, manifest)
    if state is None:
        raise InputError(f"{folder} has no accepted labels; run `autolabel accept {folder}` first")
    return frozenset(state.accepted)


def _read(folder: Path, manifest: Manifest) -> _Labels:
    """The labels as the run wrote them, and the decisions on them."""
    labels = _Labels(read_lvis(folder / LVIS))
    first: dict[int, int] = {}  # row of the first label of an image
    for image in labels.data.images:
        first[image.id] = len(labels.flat)
        labels.flat += [(image, each) for each in image.annotations]
    if manifest.fiftyone is None:
        labels.decisions = _read_sheet(folder / SHEET, labels)
        return labels
    images = _with_samples(folder, manifest, labels.data)
    for image, decided in read_decisions(label_field(manifest), images, labels.names):
        for row, right in enumerate(decided, start=first[image.id]):
            if right is not None:
                labels.decisions[row] = right
    return labels


def _with_samples(
    folder: Path, manifest: Manifest, data: LabelledSet
) -> Iterator[tuple[Sample, LabelledImage]]:
    refs = _refs(folder, manifest)
    for image in data.images:
        yield as_sample(manifest, refs[image.id]), image


def _refs(folder: Path, manifest: Manifest) -> Mapping[int, ImageRef]:
    return {each.image.id: each.image for each in read_shards(folder, manifest.shards)}


def _read_sheet(path: Path, labels: _Labels) -> dict[int, bool]:
    """Decisions of a file that a person filled in; an empty one is none."""
    if not path.exists():
        return {}
    text = read_text(path)
    header = text.partition("\n")[0]
    delimiter = next((each for each in (";", "\t") if each in header), ",")
    decisions: dict[int, bool] = {}
    for line, record in enumerate(csv.DictReader(io.StringIO(text), delimiter=delimiter), start=2):
        number, answer = record.get("number") or "", (record.get("right") or "").strip().lower()
        where = f"{path}: line {line}"
        row = int(number) - 1 if number.isascii() and number.isdigit() else -1
        if not 0 <= row < len(labels.flat) or not _is_of(record, labels, row):
            raise InputError(
                f"{where}: number {number!r} and word {record.get('word')!r} are no label of this "
                "run; leave all columns but `right` as they were written, or delete the file to "
                "begin again"
            )
        if answer and answer not in _ANSWERS:
            raise InputError(f"{where}: `right` must be yes, no or empty, got {answer!r}")
        if answer:
            decisions[row] = _ANSWERS[answer]
    return decisions


def _is_of(record: Mapping[str, str], labels: _Labels, row: int) -> bool:
    """Whether a line of the file is of this label, and not of one that an earlier run gave."""
    image, label = labels.flat[row]
    names = csv_cell(image.file_name), csv_cell(labels.word(row))
    try:  # a spreadsheet may have written decimal commas
        left, top = (float((record.get(name) or "").replace(",", ".")) for name in ("x1", "y1"))
    except ValueError:
        return False
    near = max(abs(left - label.box[0]), abs(top - label.box[1])) < 0.5
    return near and (record.get("image"), record.get("word")) == names


def _write(folder: Path, manifest: Manifest, labels: _Labels, state: AcceptanceState) -> str:
    """Write the state, mark it in FiftyOne, and offer the sample for review."""
    if manifest.fiftyone is None:
        _write_sheet(folder / SHEET, labels, state)
        review = str(folder / SHEET)
    else:
        review = _mark(folder, manifest, labels, state)
    with atomic_write(folder / STATE) as out:
        json.dump(asdict(state), out, indent=1, ensure_ascii=False)
        out.write("\n")
    return review


def _write_sheet(path: Path, labels: _Labels, state: AcceptanceState) -> None:
    answer = {True: "yes", False: "no", None: ""}
    extra = [row + 1 for row in sorted(labels.decisions) if row + 1 not in set(state.sampled)]
    with atomic_write(path) as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS)
        for number in [*state.sampled, *extra]:
            image, label = labels.flat[number - 1]
            box = [f"{side:.1f}" for side in label.box]
            word, score = csv_cell(labels.word(number - 1)), f"{label.score or 0.0:.4f}"
            right = answer[labels.decisions.get(number - 1)]
            out.writerow([number, csv_cell(image.file_name), *box, word, score, right])


def _mark(folder: Path, manifest: Manifest, labels: _Labels, state: AcceptanceState) -> str:
    """Mark the state of each label in FiftyOne, and save a view of the sample's images."""
    target, refs = label_field(manifest), _refs(folder, manifest)
    states: dict[int, str] = {
        number: TO_REVIEW for number in state.sampled if number - 1 not in labels.decisions
    }
    states |= dict.fromkeys(state.accepted, ACCEPTED)

    def marked() -> Iterator[tuple[Sample, tuple[LabelledImage, list[str | None]]]]:
        number = 1
        for image in labels.data.images:
            of_image = [states.get(number + k) for k in range(len(image.annotations))]
            number += len(image.annotations)
            yield as_sample(manifest, refs[image.id]), (image, of_image)

    mark_acceptance(target, marked(), labels.names)
    waiting = [n for n in state.sampled if n - 1 not in labels.decisions]
    chosen = dict.fromkeys(labels.flat[number - 1][0].id for number in waiting)
    return save_selection(target, VIEW, [as_sample(manifest, refs[id]) for id in chosen])
