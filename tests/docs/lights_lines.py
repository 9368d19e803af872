"""Lines of the pages about lights that take long, with the tests that run the same."""

from __future__ import annotations

TRAIN_TRAFFIC = (
    "bevstack train --config tiny_cpu_t4_traffic --nuscenes lights --version v1.0-synth "
    "--split synth_train --held-out synth_val --weights tiny_cpu_t4.safetensors --out run --resume"
)
CALIBRATE_TRAFFIC = (
    "python tools/calibrate_traffic.py --weights run/best.safetensors --nuscenes lights "
    "--version v1.0-synth --split synth_val --out calibrated.safetensors"
)
TRAIN_PICTURES = (
    "bevstack train --config traffic_lights_real --pictures "
    "kr=traffic_lights/kr:yolo:lamp:day --pictures cinta=traffic_lights/cinta:yolo:housing "
    "--fold 0/5 --weights world.safetensors --out real --resume"
)
PREDICT_PICTURES = (
    "bevstack predict --images traffic_lights/kr --weights real/model.safetensors --out "
    "real/kr.json"
)
SCORE_PICTURES = (
    "bevstack evaluate --pictures kr=traffic_lights/kr:yolo:lamp:day --fold 0/5 --elements "
    "real/kr.json --out real/scores_kr"
)
STUDY_PICTURES = (
    "OMP_NUM_THREADS=1 python tools/study_real_lights.py --pictures "
    "kr=traffic_lights/kr:yolo:lamp:day --pictures cinta=traffic_lights/cinta:yolo:housing "
    "--world world.safetensors --boxes tiny_cpu_t4.safetensors --out study --steps 1000"
)
SHIPPED_PICTURES = {
    "bevstack train --config traffic_lights_real --pictures "
    "kr=traffic_lights/kr:yolo:lamp:day --pictures cinta=traffic_lights/cinta:yolo:housing "
    "--fold 0/3 --weights tiny_cpu_t4_traffic.safetensors --out real training.num_steps=1500",
    "bevstack predict --images traffic_lights/kr --weights traffic_lights_real --out kr.json",
    "bevstack evaluate --pictures kr=traffic_lights/kr:yolo:lamp:day --fold 0/3 "
    "--elements kr.json --out scores_kr",
}
_DRIVES = "--nuscenes drives_test --version v1.0-synth --split synth_test"
DRIVES = {
    "bevstack make-world drives_test --preset lights_drives --train-scenes 0 --val-scenes 0": (
        "tests/synthetic/test_lights_drives.py"
    ),
    f"bevstack predict --weights tiny_cpu_t4_traffic {_DRIVES} --traffic-rate sweeps "
    "--out drives_test.json --cues drives_test_cues.json.gz": "tests/cli/test_predict_traffic.py",
    f"python tools/study_cues.py --cues drives_test_cues.json.gz {_DRIVES} --rows "
    '"all" "30 % of the frames dropped" --json drives_test_scores.json': "tests/test_programs.py",
}
STUDY_MAP = (
    "python tools/study_relevance_map.py --weights tiny_cpu_t4_traffic --nuscenes lights "
    "--version v1.0-synth --split synth_val --steps 250 "
    "--json relevance_map.json"
)
LIGHTS_LINES = {
    TRAIN_TRAFFIC: "tests/tasks/test_traffic.py",
    CALIBRATE_TRAFFIC: "tests/tasks/test_calibration.py",
    TRAIN_PICTURES: "tests/cli/test_pictures.py",
    PREDICT_PICTURES: "tests/cli/test_pictures.py",
    SCORE_PICTURES: "tests/cli/test_pictures.py",
    **dict.fromkeys(SHIPPED_PICTURES, "tests/cli/test_pictures.py"),
    STUDY_PICTURES: "tests/test_programs.py",
    STUDY_MAP: "tests/runtime/test_study_relevance_map.py",
    **DRIVES,
}
