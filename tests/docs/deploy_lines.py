"""Lines of the page about deploying that need more than the tests have, with tests of the same."""

from __future__ import annotations

CPP_LINES = (
    "sudo apt install g++ cmake libjpeg-dev nlohmann-json3-dev",
    "cmake -S examples/cpp -B boxes_build -DOpenVINO_DIR="
    "\"$(python -c 'import openvino; print(openvino.__path__[0])')/cmake\"",
    "cmake --build boxes_build",
    "bevstack export --onnx single.onnx --weights tiny_cpu_t4",
    "boxes_build/boxes single.onnx rig.json images",
)
TENSORRT_LINES = (
    "pip install 'bevstack[tensorrt]'",
    "bevstack export --verify tiny.onnx --weights tiny_cpu_t4 --backend tensorrt",
    "bevstack predict --model tiny.onnx --backend tensorrt --nuscenes nuscenes --version v1.0-mini "
    "--scene scene-0103 --out trt.json",
)
PLUGIN_LINES = (
    "sudo apt install libnvinfer-headers-dev",
    "bevstack export --onnx tiny_own.onnx --weights tiny_cpu_t4 --stream --custom-ops tensorrt",
    "bevstack export --verify tiny_own.onnx --weights tiny_cpu_t4 --backend tensorrt",
)
DEPLOY_LINES = {
    **dict.fromkeys(CPP_LINES, "tests/examples/test_cpp.py"),
    **dict.fromkeys(TENSORRT_LINES, "tests/cli/test_export_tensorrt.py"),
    **dict.fromkeys(PLUGIN_LINES, "tests/export/onnx/test_custom_operators.py"),
}
