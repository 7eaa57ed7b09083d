"""Convert the fetched weights to float ONNX graphs in build/onnx/fp32, and make the random ones."""

from pathlib import Path

import faceapi_to_onnx as faceapi
import ppocr
from class_slice import keep_classes
from keypoints import append_keypoints
from onnx_graph import fold_constants
from paths import FLOAT_GRAPHS, SOURCES
from tfjs_graph import TfGraph
from tfjs_to_onnx import TfjsConverter
from throughput_models import RESNET18, RESNET34, no_operation, random_classifier, random_resnet18_detector

HUMAN_MODELS = SOURCES / "human-models" / "package" / "models"
FACE_API = SOURCES / "face-api" / "package" / "model"
PPOCR = SOURCES / "rapidocr" / "rapidocr_onnxruntime" / "models"

COCO_PERSON, COCO_BICYCLE, COCO_CAR, COCO_BUS = 0, 1, 2, 5


def nanodet(path: Path) -> None:
    """NanoDet for COCO's 80 classes."""
    outputs = {name: name for name in ("Identity", *(f"Identity_{i}" for i in range(1, 6)))}
    graph = TfGraph.read(HUMAN_MODELS / "nanodet.json")
    TfjsConverter(graph).convert(path, outputs, nhwc_input=False)
    fold_constants(path)


def nanodet_of_streets(path: Path) -> None:
    """NanoDet for people, bicycles, cars and buses."""
    nanodet(path)
    keep_classes(path, [COCO_PERSON, COCO_BICYCLE, COCO_CAR, COCO_BUS])


def posenet(path: Path) -> None:
    """PoseNet for one person: 17 keypoints."""
    heatmaps, offsets = "MobilenetV1/heatmap_2/BiasAdd", "MobilenetV1/offset_2/BiasAdd"
    graph = TfGraph.read(HUMAN_MODELS / "posenet.json")
    TfjsConverter(graph).convert(path, {heatmaps: "heatmaps", offsets: "offsets"}, nhwc_input=True)
    append_keypoints(path, "heatmaps", "offsets", stride=16)
    fold_constants(path)


def faceres(path: Path) -> None:
    """MobileNet for faces: age, gender and an embedding."""
    outputs = {
        "age_pred/Softmax": "age",
        "gender_pred/Sigmoid": "gender",
        "global_pooling/Mean": "embedding",
    }
    graph = TfGraph.read(HUMAN_MODELS / "faceres.json")
    TfjsConverter(graph).convert(path, outputs, nhwc_input=True)
    fold_constants(path)


GRAPHS = {
    "nanodet416-4c": nanodet_of_streets,
    "nanodet416-80c": nanodet,
    "posenet385": posenet,
    "tiny-face-416": lambda path: faceapi.tiny_face_detector(FACE_API, path, side=416),
    "face-resnet34-descriptor": lambda path: faceapi.face_descriptor(FACE_API, path),
    "face-age-gender": lambda path: faceapi.age_and_gender(FACE_API, path),
    "face-expression": lambda path: faceapi.face_expression(FACE_API, path),
    "faceres": faceres,
    "text-dbnet-736": lambda path: ppocr.detection(PPOCR / "ch_PP-OCRv4_det_infer.onnx", path, side=736),
    "text-orientation": lambda path: ppocr.orientation(PPOCR / "ch_ppocr_mobile_v2.0_cls_infer.onnx", path),
    "text-recognition": lambda path: ppocr.recognition(PPOCR / "ch_PP-OCRv4_rec_infer.onnx", path, width=320),
    "resnet18-4class-416-random": lambda path: random_resnet18_detector(path, side=416),
    "resnet34-a-224-random": lambda path: random_classifier(path, side=224, blocks=RESNET34, seed=1),
    "resnet34-b-224-random": lambda path: random_classifier(path, side=224, blocks=RESNET34, seed=2),
    "resnet18-a-224-random": lambda path: random_classifier(path, side=224, blocks=RESNET18, seed=3),
    "resnet18-b-224-random": lambda path: random_classifier(path, side=224, blocks=RESNET18, seed=4),
    "no-operation-416": lambda path: no_operation(path, side=416),
}


def main() -> None:
    """Write every float graph."""
    FLOAT_GRAPHS.mkdir(parents=True, exist_ok=True)
    for name, build in GRAPHS.items():
        path = FLOAT_GRAPHS / f"{name}.onnx"
        build(path)
        print(f"  {name}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
