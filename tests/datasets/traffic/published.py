"""Small label files in the form that each data set publishes."""

from __future__ import annotations

from typing import Any

BSTLD = """\
- boxes: []
  path: ./rgb/train/2017-02-03-11-44-56_bag/207374.png
- boxes:
  - {label: RedLeft, occluded: true, x_max: 615.5, x_min: 612.0, y_max: 360.375, y_min: 354.75}
  - {label: Green, occluded: false, x_max: 638.125, x_min: 633.875, y_max: 351.0,
    y_min: 342.25}
  - {label: 'off', occluded: false, x_max: 519.875, x_min: 505.25, y_max: 222.875, y_min: 185.125}
  - {label: off, occluded: false, x_max: 600.0, x_min: 590.0, y_max: 222.0, y_min: 185.0}
  - {label: false, occluded: false, x_max: 700.0, x_min: 690.0, y_max: 222.0, y_min: 185.0}
  - {label: Yellow, occluded: false, x_max: 20.0, x_min: 30.0, y_max: 40.0, y_min: 60.0}
  - {label: Red, occluded: false, x_max: 1290.5, x_min: 1270.0, y_max: 100.0, y_min: -3.0}
  - {label: Red, occluded: false, x_max: 1290.5, x_min: 1285.0, y_max: 100.0, y_min: 90.0}
  - {label: GreenStraightRight, occluded: false, x_max: 9.0, x_min: 5.0, y_max: 9.0, y_min: 1.0}
  path: ./rgb/train/2017-02-03-11-44-56_bag/207384.png
"""

LISA = """\
Filename;Annotation tag;Upper left corner X;Upper left corner Y;Lower right corner X;\
Lower right corner Y;Origin file;Origin frame number;Origin track;Origin track frame number
dayTest/daySequence1--00000.jpg;stop;706;478;718;500;dayTest/d1.mp4;0;dayTest/d1.mp4;0
dayTest/daySequence1--00000.jpg;goLeft;800;470;815;498;dayTest/d1.mp4;0;dayTest/d1.mp4;0
dayTest/daySequence1--00001.jpg;warning;1270;478;1290;500;dayTest/d1.mp4;1;dayTest/d1.mp4;1
dayTest/daySequence1--00002.jpg;go;600;478;600;500;dayTest/d1.mp4;2;dayTest/d1.mp4;2
"""

S2TLD = """\
<annotation>
  <folder>JPEGImages</folder>
  <filename>2020-03-30 11_30_03.690871079.jpg</filename>
  <source><database>Unknown</database></source>
  <size><width>1920</width><height>1080</height><depth>3</depth></size>
  <segmented>0</segmented>
  <object>
    <name>red</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>1003</xmin><ymin>386</ymin><xmax>1019</xmax><ymax>422</ymax></bndbox>
  </object>
  <object>
    <name>wait_on</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>1103</xmin><ymin>386</ymin><xmax>1119</xmax><ymax>422</ymax></bndbox>
  </object>
  <object>
    <name>off</name>
    <bndbox><xmin>1900</xmin><ymin>10</ymin><xmax>1925</xmax><ymax>40</ymax></bndbox>
  </object>
</annotation>
"""


def bdd100k(light: str = "green") -> list[dict[str, Any]]:
    """Return a file of frames; ``light`` is the colour of its first light."""

    def label(name: str, category: str, color: str, x: float, **more: Any) -> dict[str, Any]:
        return {
            "id": name,
            "attributes": {"occluded": False, "truncated": False, "trafficLightColor": color}
            | more,
            "category": category,
            "box2d": {"x1": x, "y1": 281.992415, "x2": x + 40.5, "y2": 326.91156},
        }

    nothing = "NA" if light.isupper() else "none"
    labels = [
        label("0", "traffic sign", nothing, 1000.698742),
        label("1", "traffic light", light, 1125.0, occluded=True),
        label("2", "traffic light", nothing, 1260.0),
        label("3", "car", nothing, 45.0),
    ]
    scene = {"weather": "clear", "timeofday": "daytime", "scene": "city street"}
    first = {"name": "b1c66a42-6f7d68ca.jpg", "attributes": scene, "timestamp": 10000}
    return [first | {"labels": labels}, {"name": "b1c81faa-3df17267.jpg", "labels": None}]


def dtld() -> dict[str, Any]:
    """Return a file of one image with four lights, one of them a reflection."""

    def label(track: str, x: int, **more: str) -> dict[str, Any]:
        attributes = {
            "direction": "front",
            "relevance": "relevant",
            "occlusion": "not_occluded",
            "orientation": "vertical",
            "aspects": "three_aspects",
            "state": "red",
            "pictogram": "circle",
            "reflection": "not_reflected",
        }
        return {
            **{"x": x, "y": 300, "w": 20, "h": 50, "unique_id": x, "track_id": track},
            "attributes": attributes | more,
        }

    image = {
        "image_path": "./Berlin/Berlin1/2015-04-17_10-50-05/DE_BBBR667_k0.tiff",
        "disparity_image_path": "./Berlin/Berlin1/2015-04-17_10-50-05/DE_BBBR667_nativeV2.tiff",
        "time_stamp": 1429267813.633939,
        "velocity": 9.5,
        "yaw_rate": 0.0,
        "labels": [
            label("a", 1000, state="red_yellow"),
            label("b", 1200, relevance="not_relevant", pictogram="arrow left", state="green"),
            label("c", 1400, pictogram="pedestrian", occlusion="occluded"),
            label("d", 1600, reflection="reflected"),
            label("e", 1700, state="unknown", direction="back"),
        ],
    }
    return {"images": [image]}


def openlane(*, bucket: bool = False) -> dict[str, Any]:
    """Return a frame of subset B with three lanes and two elements; as lane segments or lines."""
    points = [[[float(x), float(lane), 0.0] for x in range(3)] for lane in range(3)]
    elements = [
        {"id": 31, "category": 1, "attribute": 1, "points": [[800.5, 200.0], [812.0, 240.0]]},
        {"id": 32, "category": 2, "attribute": 5, "points": [[900.0, 210.0], [930.0, 240.0]]},
    ]
    if bucket:
        lanes: list[dict[str, Any]] = [
            {
                "id": 10 + index,
                "centerline": line,
                "left_laneline": line,
                "left_laneline_type": 2,
                "right_laneline": line,
                "right_laneline_type": 0,
                "is_intersection_or_connector": index == 2,
            }
            for index, line in enumerate(points)
        ]
        names = ("lane_segment", "topology_lsls", "topology_lste")
    else:
        lanes = [{"id": 10 + index, "points": line} for index, line in enumerate(points)]
        names = ("lane_centerline", "topology_lclc", "topology_lcte")
    annotation = {
        names[0]: lanes,
        "traffic_element": elements,
        names[1]: [[0, 1, 0], [0, 0, 1], [0, 0, 0]],
        names[2]: [[1, 0], [1, 1], [0, 0]],
    }
    if bucket:
        annotation["area"] = [{"id": 90, "category": 1, "points": points[0]}]
    name = "image/CAM_FRONT/1531883530412470.jpg"
    return {
        "version": "OpenLane-V2_v2.0",
        "segment_id": "00000",
        "meta_data": {"source": "nuScenes", "source_id": "scene-0103"},
        "timestamp": "1531883530412470",
        "sensor": {"CAM_FRONT": {"image_path": f"val/00000/{name}", "extrinsic": {}}},
        "pose": {},
        "annotation": annotation,
    }
