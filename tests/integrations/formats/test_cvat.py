"""CVAT: there and back, what CVAT exports of images and videos, blemishes, refusals."""

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from integrations.annotations import Annotation, LabelledImage, LabelledSet, ReadOptions, area
from integrations.formats.registry import format_named, read_labels
from integrations.formats.xml import attribute_text, parse_attribute
from regionspot.errors import InputError
from tests.integrations.formats.factories import labelled_sets
from tests.integrations.formats.helpers import (
    BAD_XML,
    assert_holds,
    assert_refused,
    names,
    plain,
    same_mask,
    through,
)

BOX = '<box label="car" xtl="10" ytl="20" xbr="30" ybr="40"/>'
SHAPES = f"""{BOX}
<polygon label="car" points="1,1;9,1;9,9"/>
<mask label="cat" rle="0, 4" left="2" top="2" width="2" height="2"/>
<ellipse label="pupil" cx="50" cy="40" rx="10" ry="5"/>
<points label="nose" points="5,6"/>
<polyline label="lane" points="1,1;50,50;90,70"/>
<cuboid label="truck" xtl1="10" ytl1="10" xbl1="10" ybl1="40"/>
<tag label="night" source="manual"/>
<skeleton label="person"><points label="nose" outside="0" occluded="0" points="5,6"/></skeleton>"""


def image(shapes: str, more: str = 'id="0" name="a.jpg" width="100" height="80"') -> str:
    return f"<annotations><version>1.1</version><image {more}>{shapes}</image></annotations>"


def read(folder: Path, content: str, images: Path | None = None) -> LabelledSet:
    path = folder / "annotations.xml"
    path.write_text(content, encoding="utf-8")
    return format_named("cvat").read(path, images)


def only(data: LabelledSet) -> Annotation:
    (label,) = data.images[0].annotations
    return label


def left_out(data: LabelledSet) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (kind, _), entry in data.tally.left_out.items():
        counts[kind] += entry.count
    return dict(counts)


@settings(max_examples=40, deadline=None)
@given(data=labelled_sets().map(plain))
def test_cvat(data: LabelledSet) -> None:
    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        assert (label.score, label.is_crowd) == (expected.score, expected.is_crowd)
        assert label.attributes == {
            key: parse_attribute(attribute_text(value))
            for key, value in expected.attributes.items()
        }
        same_mask(label, expected, image)

    found = through("cvat", data)
    assert [each.name for each in found.categories] == [each.name for each in data.categories]
    assert [each.id for each in found.images] == [each.id for each in data.images]
    assert_holds(found, data, lambda each: True, 0.01, compare)


def test_a_rotated_box(tmp_path: Path) -> None:
    turned = BOX.replace('xtl="10"', 'rotation="90.00" xtl="0"')
    data = read(tmp_path, image(turned))
    label = only(data)
    assert label.box == (5, 15, 25, 45)
    assert label.mask == ((25, 15, 25, 45, 5, 45, 5, 15),)
    assert sum(each.count for each in data.tally.changed.values()) == 1
    assert only(read(tmp_path, image(turned.replace("90.00", "360")))).mask is None


def test_shapes_without_a_box_are_counted(tmp_path: Path) -> None:
    data = read(tmp_path, image(SHAPES))
    assert left_out(data) == {"points": 1, "polyline": 1, "cuboid": 1, "tag": 1}
    labels = data.images[0].annotations
    assert [names(data)[each.category_id] for each in labels] == (
        ["car", "car", "cat", "pupil", "person"]
    )
    assert labels[3].box == (40, 35, 60, 45)
    assert area(labels[3], 100, 80) == pytest.approx(157, rel=0.05)


def test_a_group_is_the_union_of_its_shapes(tmp_path: Path) -> None:
    shapes = (
        '<polygon label="car" points="10,10;30,10;30,30" group_id="1"/>'
        '<polygon label="car" points="50,10;70,10;70,30" group_id="1"/>'
        '<mask label="car" rle="0, 4" left="2" top="2" width="2" height="2" group_id="1"/>'
    )
    label = only(read(tmp_path, image(shapes)))
    assert label.box == (2, 2, 70, 30)
    assert area(label, 100, 80) == pytest.approx(404, rel=0.06)
    with_box = BOX.replace("/>", ' group_id="1"/>') + shapes
    assert only(read(tmp_path, image(with_box))).box == (10, 20, 30, 40)
    two = read(tmp_path, image(with_box + BOX.replace("/>", ' group_id="1"/>')))
    assert [each.attributes for each in two.images[0].annotations] == [{"group_id": 1}] * 5
    other = read(tmp_path, image(shapes + with_box.replace("car", "plate")))
    assert len(other.images[0].annotations) == 2


def test_attributes_of_a_shape(tmp_path: Path) -> None:
    box = (
        '<box label="car" source="semi-auto" occluded="1" z_order="3" group_id="7" odd="1" '
        'xtl="1" ytl="2" xbr="3" ybr="4"><attribute name="score">high</attribute>'
        '<attribute name="parked">true</attribute><note/></box>'
    )
    data = read(tmp_path, image(box))
    assert only(data).attributes == {
        "parked": True,
        "occluded": True,
        "z_order": 3,
        "source": "semi-auto",
        "group_id": 7,
    }
    assert left_out(data) == {
        "attribute 'odd' of a box": 1,
        "<note> in a box": 1,
        "attribute 'score'": 1,
    }
    format_named("cvat").write(tmp_path / "new", data.categories, data.images)
    written = (tmp_path / "new/annotations.xml").read_text()
    assert 'source="semi-auto" occluded="1" z_order="3" group_id="7"' in written
    assert only(format_named("cvat").read(tmp_path / "new")).attributes == only(data).attributes


SKELETONS = """<annotations><meta><task><labels>
<label><name>person</name><type>skeleton</type><svg>
&lt;line x1="1" y1="2" data-type="edge" data-node-from="1" data-node-to="2"&gt;&lt;/line&gt;
&lt;circle r="1.5" data-node-id="1" data-label-name="nose"&gt;&lt;/circle&gt;
&lt;circle r="1.5" data-node-id="2" data-label-name="ear"&gt;&lt;/circle&gt;
</svg></label>
<label><name>nose</name><type>points</type><parent>person</parent></label>
<label><name>ear</name><type>points</type><parent>person</parent></label>
<label><name>tail</name><type>points</type><parent>person</parent></label>
</labels></task></meta>
<image id="0" name="a.jpg" width="100" height="80">
<skeleton label="person" source="manual" z_order="0">
<points label="ear" outside="0" occluded="1" points="10.5,20"/>
<points label="nose" outside="0" occluded="0" points="30,5"/>
<points label="tail" outside="1" occluded="0" points="90,70"/>
</skeleton>
<skeleton label="person"><points label="nose" outside="1" points="1,1"/></skeleton>
</image></annotations>"""


def test_skeletons_become_keypoints(tmp_path: Path) -> None:
    data = read(tmp_path, SKELETONS)
    label = only(data)
    assert label.box == (10.5, 5, 30, 20)
    assert label.extra == {"keypoints": [30, 5, 2, 10.5, 20, 1, 0, 0, 0]}
    (category,) = data.categories
    assert category.extra == {"keypoints": ["nose", "ear", "tail"], "skeleton": [[1, 2]]}
    assert left_out(data) == {"skeleton": 1}


VIDEO = """<annotations><version>1.1</version><meta><task>{meta}
<labels><label><name>car</name></label></labels>
<original_size><width>100</width><height>80</height></original_size></task></meta>
<track id="4" label="car" source="manual">
<box frame="0" keyframe="1" outside="0" occluded="0" xtl="1" ytl="2" xbr="30" ybr="40"/>
<box frame="1" keyframe="0" outside="0" occluded="1" xtl="3" ytl="2" xbr="32" ybr="40"/>
<box frame="2" keyframe="1" outside="1" occluded="0" xtl="3" ytl="2" xbr="32" ybr="40"/>
</track>
<track id="5" label="nose"><points frame="1" keyframe="1" outside="0" points="1,2"/></track>
</annotations>"""


def test_a_video(tmp_path: Path) -> None:
    data = read(tmp_path, VIDEO.format(meta="<size>3</size><mode>interpolation</mode>"))
    assert [each.file_name for each in data.images] == [f"frame_00000{n}.PNG" for n in range(3)]
    assert [(each.width, each.height) for each in data.images] == [(100, 80)] * 3
    assert [len(each.annotations) for each in data.images] == [1, 1, 0]
    first, second = (each.annotations[0] for each in data.images[:2])
    assert first.attributes == {"track_id": 4, "keyframe": True}
    assert second.attributes == {"track_id": 4, "keyframe": False, "occluded": True}
    assert second.box == (3, 2, 32, 40)
    assert left_out(data) == {"points": 1}


def test_a_video_with_its_frames(tmp_path: Path) -> None:
    Image.new("L", (100, 80)).save(tmp_path / "frame_000001.jpg")
    without_size = VIDEO.replace("original_size", "other").format(meta="")
    data = read(tmp_path, without_size, tmp_path)
    assert [each.file_name for each in data.images] == ["frame_000000.PNG", "frame_000001.jpg"]
    assert [each.width for each in data.images] == [0, 100]
    stepped = "<size>3</size><start_frame>0</start_frame><frame_filter>step=2</frame_filter>"
    assert [each.id for each in read(tmp_path, VIDEO.format(meta=stepped)).images] == [0, 1, 2, 4]


def test_a_project_of_videos(tmp_path: Path) -> None:
    task = "<task><id>{}</id><size>1</size></task>"
    track = '<track id="0" label="car" task_id="{}"><box frame="0" outside="0" {}/></track>'
    box = 'xtl="1" ytl="2" xbr="30" ybr="40"'
    content = (
        f"<annotations><meta><project><tasks>{task.format(7)}{task.format(8)}</tasks></project>"
        f"</meta>{track.format(7, box)}{track.format(8, box)}</annotations>"
    )
    data = read(tmp_path, content)
    assert {each.file_name: len(each.annotations) for each in data.images} == {
        "task_7/frame_000000.PNG": 1,
        "task_8/frame_000000.PNG": 1,
    }
    assert len({each.id for each in data.images}) == 2


def test_a_project_of_images(tmp_path: Path) -> None:
    one = '<image id="0" name="a.jpg" subset="{}" task_id="{}" width="100" height="80">{}</image>'
    content = f"<annotations>{one.format('train', 1, BOX)}{one.format('val', 2, '')}</annotations>"
    data = read(tmp_path, content)
    assert [each.file_name for each in data.images] == ["train/a.jpg", "val/a.jpg"]
    assert [each.id for each in data.images] == [0, 1]
    assert data.images[0].attributes == {"subset": "train", "task_id": 1}
    (kind,) = data.tally.changed
    assert kind[0] == "id of an image"


def test_a_missing_size_is_that_of_the_file(tmp_path: Path) -> None:
    shapes = BOX + '<mask label="cat" rle="0, 4" left="2" top="2" width="2" height="2"/>'
    content = image(shapes, 'id="0" name="a.png"')
    data = read(tmp_path, content)
    assert (data.images[0].width, len(data.images[0].annotations)) == (0, 1)
    assert left_out(data) == {"mask": 1}
    Image.new("L", (100, 80)).save(tmp_path / "a.png")
    data = read(tmp_path, content, tmp_path)
    assert (data.images[0].width, len(data.images[0].annotations)) == (100, 2)


def test_blemishes_are_counted(tmp_path: Path) -> None:
    shapes = (
        f'{BOX}<polygon label="car" points="1,1;2,2"/>{BOX.replace("car", "")}'
        '<cylinder label="car"/>'
    )
    content = image(shapes).replace("</annotations>", "<issues/></annotations>")
    data = read(tmp_path, content)
    assert len(data.images[0].annotations) == 1
    assert left_out(data) == {"<issues>": 1, "polygon": 1, "box": 1, "cylinder": 1}
    with pytest.raises(InputError, match="--strict"):
        format_named("cvat").read(tmp_path, None, ReadOptions(strict=True))
    read(tmp_path, image(SHAPES.split("/>", 4)[4].rpartition("<skeleton")[0]))
    with pytest.raises(InputError, match="nothing could be read as cvat: left out: 1 x points"):
        read_labels(format_named("cvat"), tmp_path)


def test_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "annotations.xml"
    content = '<?xml version="1.0" encoding="utf-16"?>' + image(BOX.replace("car", "Äpfel"))
    path.write_bytes(content.encode("utf-16"))
    assert names(format_named("cvat").read(path)) == {1: "Äpfel"}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutations_are_read_counted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Labels that are read and those left out are all shapes of the file."""
    video = VIDEO.format(meta="<size>3</size>")
    root = ET.fromstring(data.draw(st.sampled_from([image(SHAPES), SKELETONS, video])))
    values = st.sampled_from(
        ["", "nan", "inf", "-1", "1e999", "0", "5", "9" * 30, "a", "1,2", "1,2;3", "ä", "1;2", "\n"]
    )
    for _ in range(data.draw(st.integers(1, 3))):
        element = data.draw(st.sampled_from([*root.iter()]))
        change = data.draw(st.sampled_from(["value", "drop", "text", "again"]))
        keys = sorted(element.keys())
        if change == "again" and len(element):
            element.append(data.draw(st.sampled_from([*element])))
        elif change == "text":
            element.text = data.draw(values)
        elif keys and change == "drop":
            del element.attrib[data.draw(st.sampled_from(keys))]
        elif keys:
            element.set(data.draw(st.sampled_from(keys)), data.draw(values))
    parts = [
        shape
        for parent in (*root.iter("image"), *root.iter("track"))
        for shape in parent
        if shape.tag != "attribute" and (parent.tag == "image" or shape.get("outside") != "1")
    ]
    try:
        found = read(tmp_path_factory.mktemp("cvat"), ET.tostring(root, encoding="unicode"))
    except InputError:
        return
    kept = sum(len(each.annotations) for each in found.images)
    kinds = {str(shape.tag) for shape in parts}
    assert kept + sum(n for kind, n in left_out(found).items() if kind in kinds) == len(parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BAD_XML, "declares a document type"),
        ("<a/>", "expected <annotations>"),
        (image("", 'id="1" name="/a.jpg" width="1" height="1"'), "is absolute"),
        (image("", 'id="1" name="a.jpg" subset="../b"'), "leaves the images' folder"),
        (image("", 'id="1" name="a.jpg" width="-1" height="1"'), "whole number of pixels"),
        (image(BOX.replace('"10"', '"nan"')), "'xtl' must be a number"),
        (image(BOX.replace('"10"', '"31"')), "reversed"),
        (image('<polygon label="cat" points="1,2;3"/>'), "points must be x,y"),
        (image('<polygon label="cat" points="1,2;3,4;1e99,3"/>'), "points must be finite"),
        (image('<ellipse label="cat" cx="1" cy="1" rx="-1" ry="1"/>'), "negative radius"),
        (
            image('<mask label="cat" rle="3" left="0" top="0" width="2" height="2"/>'),
            "must add up",
        ),
        (
            image('<mask label="cat" rle="9,-5" left="0" top="0" width="2" height="2"/>'),
            "must add up",
        ),
        (
            image('<mask label="cat" rle="3" left="0" top="0" width="99999" height="99999"/>'),
            "leaves the image",
        ),
        (
            image(
                '<mask label="cat" rle="4" left="0" top="0" width="2" height="2"/>',
                'id="0" name="a.jpg" width="900000" height="900000"',
            ),
            "larger than any image",
        ),
        (VIDEO.format(meta="<size>999999999</size>"), "whole number"),
        (VIDEO.format(meta="").replace(' frame="0"', ""), "must have a frame"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    assert_refused(tmp_path, "cvat", "annotations.xml", content, message)
