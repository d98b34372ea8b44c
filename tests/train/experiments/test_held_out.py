"""The images that a training holds out, as a COCO file."""

from pathlib import Path

from integrations.formats.coco import read_coco
from tests.train.written import annotation, coco, image, write_image, write_json
from train.experiments.held_out import write_held_out


def test_a_tenth_of_the_images_comes_with_its_annotations(tmp_path: Path) -> None:
    data = tmp_path / "photos"
    images = [image(number) for number in range(1, 21)]
    for each in images:
        write_image(data / "images" / each["file_name"])
    annotations = [annotation(number, number, 1) for number in range(1, 21)]
    write_json(data / "instances.json", coco(images, annotations, {1: "cup"}))
    out = tmp_path / "held_out.json"
    assert write_held_out(data, out, 0.1) == 2
    found = read_coco(out)
    assert [len(each.annotations) for each in found.images] == [1, 1]
    first = out.read_bytes()
    write_held_out(data, out, 0.1)
    assert out.read_bytes() == first
