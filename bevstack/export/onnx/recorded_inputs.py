"""Inputs of an exported detector over drives, for calibration and checks of a quantised file."""

from __future__ import annotations

from collections.abc import Sequence

from bevstack.datasets.collate import prepare_clip, stack_clips, with_lost_cameras
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.export.onnx.arrays import Arrays, memory_from
from bevstack.export.onnx.check import case_arrays
from bevstack.export.runtimes import Session
from bevstack.types import Clip

FRAMES_OF_SCENE = 5  # from its start, so that empty and full memories occur


def recorded_inputs(
    session: Session, dataset: NuScenesDataset, scenes: Sequence[str], count: int
) -> list[Arrays]:
    """Return the inputs of about ``count`` frames, spread over the scenes.

    Streams carry the memory that the session returns.

    Args:
        session: the exported detector.
        dataset: with the class names and the bev frame of its configuration.
        scenes: names of scenes; those in between are left out if there are more than needed.
        count: number of frames, at least one.

    Raises:
        ValueError: no scenes, or a frame does not fit the model.
    """
    if not scenes or count < 1:
        raise ValueError(
            f"scenes and a number of frames must be given; got {len(scenes)} scenes and {count} "
            "frames"
        )
    info = session.info
    wanted = min(-(-count // FRAMES_OF_SCENE), len(scenes))
    chosen = [scenes[index * len(scenes) // wanted] for index in range(wanted)]
    indices = dataset.scene_indices()
    found: list[Arrays] = []
    for scene in chosen:
        memory = None
        for index in indices[scene][:FRAMES_OF_SCENE]:
            frame = dataset.frame(index, images_for=info.config)
            prepared = prepare_clip(Clip((frame,), (0,)), info.config)
            batch = stack_clips([with_lost_cameras(prepared, max(info.cameras, frame.num_cameras))])
            arrays = case_arrays(batch, memory, session)
            found.append(arrays)
            if info.stream:
                memory = memory_from(session.run(arrays), session.shapes, info)
    return found[:count]
