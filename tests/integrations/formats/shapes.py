"""Small label sets as other tools write them, and as our writers do: content by path.

Every image in them is 40 x 30 pixels.
"""

import functools
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from integrations.annotations import Annotation, LabelledImage, LabelledSet
from integrations.formats.registry import format_named, write_folder
from tests.integrations.formats.factories import small_set

Files = dict[str, bytes]


def jpeg(width: int = 40, height: int = 30) -> bytes:
    out = io.BytesIO()
    Image.new("L", (width, height)).save(out, "JPEG")
    return out.getvalue()


@functools.cache
def our_set(format_name: str) -> Files:
    """What our writer makes of the small set, with polygons and a crowd."""
    small = small_set()
    first, second = small.images
    polygon = ((2.0, 2.0, 20.0, 2.0, 20.0, 20.0, 3.0, 9.5),)
    more = (
        Annotation(2, (2, 2, 20, 20), 0.5, polygon),
        Annotation(3, (0, 0, 9, 9), 0.5, polygon, is_crowd=True),
    )
    third = LabelledImage(11, "c.jpg", 40, 30, more, absent=(1,), unverified=(2,))
    data = LabelledSet(small.categories, (first, second, third))
    format = format_named(format_name)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        write_folder(out, format, data.categories, data.images, {"description": "d"})
        found = {
            path.relative_to(out).as_posix(): path.read_bytes()
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }
    return found | {f"{format.images}/{image.file_name}": jpeg() for image in data.images}


def _json(name: str, value: Any) -> Files:
    return {name: json.dumps(value).encode()}


COCO = {
    "info": {"year": 2026},
    "licenses": [{"id": 1, "name": "CC BY", "url": ""}],
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30, "license": 1, "flickr_url": ""},
        {"id": 2, "file_name": "sub/b.jpg", "width": 40, "height": 30, "license": 1},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 5, 20, 10],
            "area": 200.0,
            "iscrowd": 0,
            "segmentation": [[10, 5, 30, 5, 30, 15, 10, 14.5], [11, 6, 12, 6, 12, 7]],
            "attributes": {"occluded": False, "rotation": 0.0, "track_id": 3},
            "keypoints": [10, 5, 2, 20, 10, 1],
            "num_keypoints": 2,
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 2,
            "bbox": [10, 5, 20, 10],
            "area": 200.0,
            "iscrowd": 0,
            "segmentation": [],
            "attributes": {"occluded": False, "rotation": 90.0},
        },
        {
            "id": 3,
            "image_id": 2,
            "category_id": 2,
            "bbox": [0, 0, 40, 30],
            "area": 600,
            "iscrowd": 1,
            "segmentation": {"size": [30, 40], "counts": [0, 600, 600]},
        },
        {
            "id": 4,
            "image_id": 2,
            "category_id": 1,
            "bbox": [5, 4, 10, 6],
            "area": 60,
            "iscrowd": 0,
            "segmentation": {"size": [30, 40], "counts": "j46h000000000000000000Zg0"},
        },
    ],
    "categories": [
        {
            "id": 1,
            "name": "person",
            "supercategory": "",
            "keypoints": ["nose", "eye"],
            "skeleton": [[1, 2]],
        },
        {"id": 2, "name": "cat", "supercategory": "animal"},
    ],
}

LVIS = {
    "info": {},
    "licenses": [],
    "images": [
        {
            "id": 9,
            "width": 40,
            "height": 30,
            "coco_url": "http://images.cocodataset.org/train2017/a.jpg",
            "neg_category_ids": [2],
            "not_exhaustive_category_ids": [],
        }
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 9,
            "category_id": 1,
            "bbox": [10, 5, 20, 10],
            "area": 100.0,
            "segmentation": [[10, 5, 30, 5, 30, 15]],
        }
    ],
    "categories": [
        {
            "id": number,
            "name": name,
            "synset": f"{name}.n.01",
            "synonyms": [name],
            "def": "x",
            "frequency": "f",
            "image_count": 1,
            "instance_count": 1,
        }
        for number, name in enumerate(("bus_(vehicle)", "cat"), start=1)
    ],
}

LABELIMG = """<annotation verified="yes">
	<folder>photos</folder><filename>a.jpg</filename><path>/home/me/photos/a.jpg</path>
	<source><database>Unknown</database></source>
	<size><width>40</width><height>30</height><depth>3</depth></size><segmented>0</segmented>
	<object><name>cat</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
		<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>15</ymax></bndbox></object>
	<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4.5</xmax><ymax>4</ymax></bndbox>
		<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
	</object>
</annotation>"""

CVAT_VOC = """<?xml version="1.0" encoding="utf-8"?>
<annotation><folder></folder><filename>sub/b.jpg</filename>
<source><database>Unknown</database><annotation>Unknown</annotation><image>Unknown</image></source>
<size><width>40</width><height>30</height><depth></depth></size><segmented>0</segmented>
<object><name>cat</name><truncated>0</truncated><occluded>1</occluded><difficult>0</difficult>
<bndbox><xmin>10.0</xmin><ymin>5.0</ymin><xmax>30.0</xmax><ymax>15.0</ymax></bndbox>
<attributes><attribute><name>rotation</name><value>90.0</value></attribute>
<attribute><name>colour</name><value>red</value></attribute></attributes></object>
</annotation>"""

POLYGON_VOC = """<annotation><folder/><filename>c.jpg</filename><path>c.jpg</path>
<size><width>40</width><height>30</height><depth>3</depth></size><segmented>0</segmented>
<object><name>cat</name><bndbox><xmin>2</xmin><xmax>20</xmax><ymin>2</ymin><ymax>20</ymax></bndbox>
<polygon><x1>2</x1><y1>2</y1><x2>20</x2><y2>2</y2><x3>20</x3><y3>20</y3></polygon></object>
<object><type>robndbox</type><name>dog</name>
<robndbox><cx>20</cx><cy>15</cy><w>10</w><h>4</h><angle>0.5</angle></robndbox></object>
</annotation>"""

CVAT_IMAGES = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>cat</name><type>any</type>
<attributes/></label><label><name>dog</name><attributes/></label></labels></task></meta>
<image id="0" name="a.jpg" width="40" height="30">
<box label="cat" source="manual" occluded="0" xtl="10.0" ytl="5.0" xbr="30.0" ybr="15.0" z_order="0"
 rotation="90.00"><attribute name="colour">red</attribute></box>
<polygon label="dog" source="manual" occluded="1" points="2,2;20,2;20,20" z_order="1" group_id="1"/>
<mask label="dog" source="semi-auto" occluded="0" rle="0, 4" left="3" top="3" width="2" height="2"/>
<points label="dog" occluded="0" points="3,3"/><polyline label="dog" occluded="0" points="1,1;5,5"/>
<ellipse label="cat" occluded="0" cx="20" cy="15" rx="5" ry="3"/>
</image><image id="1" name="sub/b.jpg" width="40" height="30">
<tag label="cat" source="manual"/></image>
</annotations>"""

CVAT_VIDEO = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><job><size>3</size><start_frame>0</start_frame>
<stop_frame>2</stop_frame><labels><label><name>cat</name></label></labels></job>
<original_size><width>40</width><height>30</height></original_size><source>v.mp4</source></meta>
<track id="0" label="cat" source="manual">
<box frame="0" keyframe="1" outside="0" occluded="0" xtl="1" ytl="2" xbr="11" ybr="12" z_order="0"/>
<box frame="1" keyframe="0" outside="0" occluded="0" xtl="2" ytl="2" xbr="12" ybr="12" z_order="0"/>
<box frame="2" keyframe="1" outside="1" occluded="0" xtl="3" ytl="2" xbr="13" ybr="12" z_order="0"/>
</track></annotations>"""


def _task(value: dict[str, Any], kind: str, number: int) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": 40,
        "original_height": 30,
        "image_rotation": 0,
        "value": value,
    }


_RECTANGLE = {
    "x": 25,
    "y": 20,
    "width": 50,
    "height": 30,
    "rotation": 0,
    "rectanglelabels": ["cat"],
}
_POLYGON = {"points": [[5, 5], [50, 5], [50, 60]], "closed": True, "polygonlabels": ["dog"]}
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"},
        "annotations": [
            {
                "id": 5,
                "was_cancelled": False,
                "ground_truth": False,
                "completed_by": 1,
                "result": [
                    _task(_RECTANGLE, "rectanglelabels", 1),
                    _task(_POLYGON, "polygonlabels", 2),
                ],
            }
        ],
        "predictions": [
            {"score": 0.5, "result": [_task(_RECTANGLE | {"rotation": 30}, "rectanglelabels", 3)]}
        ],
    },
    {
        "id": 2,
        "data": {"image": "/data/local-files/?d=photos/b.jpg"},
        "annotations": [{"id": 6, "was_cancelled": True, "result": []}],
        "predictions": [],
    },
]

_DATA_YAML = """train: ../train/images
val: ../valid/images
nc: 2
names: ['cat', 'dog']
roboflow:
  workspace: me
"""

SHAPES: tuple[tuple[str, Files], ...] = (
    ("coco", _json("labels.coco.json", COCO)),
    (
        "coco",
        _json("labels.coco.json", COCO) | {"images/a.jpg": jpeg(), "images/sub/b.jpg": jpeg()},
    ),
    ("lvis", _json("labels.lvis.json", LVIS)),
    (
        "voc",
        {
            "Annotations/a.xml": LABELIMG.encode(),
            "Annotations/sub/b.xml": CVAT_VOC.encode(),
            "Annotations/c.xml": POLYGON_VOC.encode(),
            "labelmap.txt": b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\n",
            "JPEGImages/a.jpg": jpeg(),
        },
    ),
    ("voc", {"Annotations/a.xml": LABELIMG.encode()}),
    ("cvat", {"annotations.xml": CVAT_IMAGES.encode()}),
    ("cvat", {"annotations.xml": CVAT_VIDEO.encode()}),
    ("label-studio", _json("tasks.json", LABEL_STUDIO)),
    (
        "yolo",
        {
            "data.yaml": _DATA_YAML.encode(),
            "train/images/a.jpg": jpeg(),
            "train/labels/a.txt": b"0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.5 0.1 0.5 0.6\n",
            "valid/images/b.jpg": jpeg(),
            "valid/labels/b.txt": b"1 0.5 0.5 0.25 0.5\n",
        },
    ),
    (
        "yolo",
        {
            "data.yaml": b"path: .\ntrain: images\nkpt_shape: [2, 3]\nnames: {0: cat}\n",
            "images/a.jpg": jpeg(),
            "labels/a.txt": b"0 0.5 0.5 0.25 0.5 0.4 0.4 2 0.6 0.6 1\n",
        },
    ),
)
