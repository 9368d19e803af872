"""Streams of frames: equal to clips, independent of each other, with reasons for a restart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bevstack.config import TemporalConfig
from bevstack.datasets.clips import load_clip
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.runtime.detector import build
from bevstack.runtime.streaming import step_together
from bevstack.types import Clip, Reset
from tests.conftest import shared_dir
from tests.small_world import CONFIG, dataset, small_world

FRAMES = (-2, -1, 0)


def temporal(frames=FRAMES, alignment="reproject"):
    section = TemporalConfig(alignment=alignment, num_fusion=1, inter_channels=32, norm="BN")
    return replace(CONFIG, name="small_temporal", frames=frames, temporal=section)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Return the frames of two scenes, three each."""
    data = dataset(small_world(tmp_path_factory), "synth_val")
    return [data.frame(index) for index in range(6)]


@pytest.fixture(scope="module", params=["reproject", "warp"])
def detector(request):
    return build(temporal(alignment=request.param))


@pytest.fixture(scope="module")
def reprojecting():
    return build(temporal())


class Outputs(list):
    """Outputs of a detector's model, one per call."""

    def __init__(self, detector):
        super().__init__()
        self.hook = detector.model.register_forward_hook(
            lambda module, inputs, output: self.append(output)
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.hook.remove()


def assert_same(got, wanted):
    # the same numbers summed in batches of another size
    for name in ("logits", "codes"):
        ours, theirs = getattr(got.decoder, name), getattr(wanted.decoder, name)
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def stream_and_clips(detector, frames, scenes):
    """Return outputs of a stream through the given frames, and of clips of the same scenes."""
    stream, resets = detector.stream(), []
    with Outputs(detector) as stepped:
        for frame in frames:
            if frame is not None:
                stream.step(frame)
                resets.append(stream.reset)
    with Outputs(detector) as clipped:
        for index, frame in enumerate(frames):
            if frame is not None:
                past = [
                    i if i >= 0 and scenes[i] == scenes[index] else None
                    for i in (index - 2, index - 1)
                ]
                around = [None if i is None else frames[i] for i in past]
                detector.predict_clip(Clip((*around, frame), FRAMES))
    return stepped, clipped, resets


def test_stream_equals_clips_through_a_scene_change_and_a_lost_camera(detector, frames):
    lost = replace(frames[1], images=[None, *frames[1].images[1:]], camera_mask=None)
    drive = [frames[0], lost, *frames[2:]]
    stepped, clipped, resets = stream_and_clips(detector, drive, "aaabbb")
    for got, wanted in zip(stepped, clipped, strict=True):
        assert_same(got, wanted)
    assert resets == [Reset.START, Reset.NONE, Reset.NONE, Reset.SCENE, Reset.NONE, Reset.NONE]
    # the lost camera and history change the output
    whole, _, _ = stream_and_clips(detector, frames, "aaabbb")
    assert not torch.allclose(whole[2].decoder.codes, stepped[2].decoder.codes, atol=1e-3)


def test_stream_equals_clips_through_a_gap(detector, frames):
    drive = [frames[0], None, frames[2]]
    stepped, clipped, resets = stream_and_clips(detector, drive, "aaa")
    assert_same(stepped[1], clipped[1])
    assert resets == [Reset.START, Reset.NONE]


@pytest.mark.oracle("data_stream_scene0103")
@pytest.mark.parametrize("alignment", ["reproject", "warp"])
def test_stream_equals_clips_on_real_frames(alignment):
    detector = build(temporal((-3, -2, -1, 0), alignment))
    real = shared_dir() / "data" / "nuscenes_minival"
    data = NuScenesDataset(real, "v1.0-mini", scenes=["scene-0103"])
    stream = detector.stream()
    with Outputs(detector) as outputs:
        for index in range(4):
            stream.step(data.frame(index))
            detector.predict_clip(load_clip(data, index, (-3, -2, -1, 0)))
            assert_same(outputs[-2], outputs[-1])
    assert stream.reset is Reset.NONE
    assert stream.memory.valid.tolist() == [[True] * 4]


def test_a_single_frame_equals_the_first_of_a_stream(detector, frames):
    stream = detector.stream()
    with Outputs(detector) as outputs:
        stream.step(frames[1])
        detector.predict(frames[1])
        without_pose = replace(frames[1], world_from_ego=None, world_from_ego_at_camera=None)
        detector.predict(
            without_pose
        )  # needs no pose; its rig differs, as the cameras' times are not compensated
    assert torch.equal(outputs[0].bev, outputs[1].bev)
    assert stream.reset is Reset.START


def shifted(frame, seconds=0.0, metres=0.0):
    pose = frame.world_from_ego.clone()
    pose[0, 3] += metres
    shift_us = round(seconds * 1e6)
    return replace(
        frame,
        world_from_ego=pose,
        world_from_ego_at_camera=None,
        timestamp_us=frame.timestamp_us + shift_us,
        camera_timestamp_us=tuple(time + shift_us for time in frame.camera_timestamp_us),
    )


@pytest.mark.parametrize(
    ("reset", "change"),
    [
        (Reset.NONE, lambda frame: frame),
        (Reset.SCENE, lambda frame: replace(frame, scene_token="another")),
        (Reset.TIME, lambda frame: shifted(frame, seconds=-3.0)),
        (Reset.GAP, lambda frame: shifted(frame, seconds=20.0)),
        (Reset.JUMP, lambda frame: shifted(frame, metres=100.0)),
    ],
)
def test_a_stream_reports_why_it_restarted(detector, frames, reset, change):
    stream = detector.stream()
    stream.step(frames[0])
    with Outputs(detector) as outputs:
        stream.step(change(frames[1]))
        detector.predict(change(frames[1]))
    assert stream.reset is reset
    restarted = torch.allclose(outputs[0].bev, outputs[1].bev, atol=1e-5)
    assert restarted is (reset is not Reset.NONE)
    stream.step(change(frames[2]) if reset is not Reset.NONE else frames[2])
    assert stream.reset is Reset.NONE


def with_cameras(frame, cameras):
    index = torch.tensor(cameras)
    return replace(
        frame,
        images=[frame.images[n] for n in cameras],
        intrinsics=frame.intrinsics[index],
        ego_from_cam=frame.ego_from_cam[index],
        camera_names=tuple(frame.camera_names[n] for n in cameras),
        camera_mask=None,
        camera_timestamp_us=(),
        world_from_ego_at_camera=None,
        camera_annotations=None,
    )


def narrowed(frame, cameras):
    """Keep the left half of some cameras' images: narrow images get less padding."""
    images = [
        np.ascontiguousarray(image[:, : image.shape[1] // 2]) if camera in cameras else image
        for camera, image in enumerate(frame.images)
    ]
    return replace(frame, images=images, camera_annotations=None)


def test_another_number_of_cameras_restarts_a_stream_of_features(reprojecting, frames):
    stream = reprojecting.stream()
    stream.step(frames[0])
    fewer = with_cameras(frames[1], [0, 2, 3])
    with Outputs(reprojecting) as outputs:
        stream.step(fewer)
        reprojecting.predict(fewer)
    assert stream.reset is Reset.RIG
    assert torch.equal(outputs[0].bev, outputs[1].bev)
    stream.step(with_cameras(frames[2], [0, 2, 3]))
    assert stream.reset is Reset.NONE


def test_bev_maps_are_kept_when_the_number_of_cameras_changes(frames):
    stream = build(temporal(alignment="warp")).stream()
    stream.step(frames[0])
    stream.step(with_cameras(frames[1], [0, 2, 3]))
    assert stream.reset is Reset.NONE


def test_the_largest_camera_may_be_lost_and_return(reprojecting, frames):
    wide = [narrowed(frame, (0, 1, 2, 3, 5)) for frame in frames[:3]]
    images = list(wide[1].images)
    images[4] = None
    lost = replace(wide[1], images=images, camera_mask=None)
    narrow = reprojecting.prepare(lost).images.shape
    assert narrow != reprojecting.prepare(wide[0]).images.shape  # less padding by itself
    stepped, clipped, resets = stream_and_clips(reprojecting, [wide[0], lost, wide[2]], "aaa")
    for got, wanted in zip(stepped, clipped, strict=True):
        assert_same(got, wanted)
    assert resets == [Reset.START, Reset.NONE, Reset.NONE]


def test_wider_images_restart_a_stream(reprojecting, frames):
    stream = reprojecting.stream()
    stream.step(narrowed(frames[0], range(6)))
    with Outputs(reprojecting) as outputs:
        stream.step(frames[1])
        reprojecting.predict(frames[1])
    assert stream.reset is Reset.RIG
    assert torch.equal(outputs[0].bev, outputs[1].bev)


def test_streams_stepped_together_equal_streams_alone(detector, frames):
    """Step streams of different rigs and scenes, one of which starts a step later."""
    drives = [
        frames[:3],
        frames[3:],
        [with_cameras(frame, [1, 4]) for frame in frames[:3]],
        [None, *frames[1:3]],
    ]
    streams = [detector.stream() for _ in drives]
    together = [[] for _ in drives]
    for moment in range(3):
        active = [i for i, drive in enumerate(drives) if drive[moment] is not None]
        found = step_together([streams[i] for i in active], [drives[i][moment] for i in active])
        for i, detections in zip(active, found, strict=True):
            together[i].append((detections, streams[i].reset))
    for drive, got in zip(drives, together, strict=True):
        alone = detector.stream()
        for frame, (detections, reset) in zip([f for f in drive if f], got, strict=True):
            wanted = alone.step(frame)
            assert alone.reset is reset
            # bit for bit, so that boxes that are equal but for rounding keep their places
            assert detections.class_names == wanted.class_names
            assert detections.uncertainty is wanted.uncertainty is None  # without a calibration
            for ours, theirs in ((detections, wanted), (detections.boxes, wanted.boxes)):
                for name in vars(ours).keys() - {"boxes", "class_names", "uncertainty"}:
                    assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_two_interleaved_streams_equal_two_detectors(detector, frames):
    streams = [detector.stream(), detector.stream()]
    mixed = [[], []]
    for one, two in zip(frames[:3], frames[3:], strict=True):
        mixed[0].append(streams[0].step(one))
        mixed[1].append(streams[1].step(two))
    for drive, got in zip((frames[:3], frames[3:]), mixed, strict=True):
        alone = build(detector.config).stream()
        for frame, detections in zip(drive, got, strict=True):
            wanted = alone.step(frame)
            assert torch.equal(detections.scores, wanted.scores)
            assert torch.equal(detections.boxes.center, wanted.boxes.center)


def test_boxes_are_in_the_ego_frame_if_the_frame_gives_no_bev_from_ego(reprojecting, frames):
    stream, plain = reprojecting.stream(), reprojecting.stream()
    for frame in frames[:2]:
        got = stream.step(replace(frame, bev_from_ego=None, annotations=None))
        wanted = plain.step(replace(frame, bev_from_ego=torch.eye(4), annotations=None))
        torch.testing.assert_close(got.boxes.center, wanted.boxes.center)


def test_an_unusable_frame_is_refused_and_leaves_the_stream_unchanged(reprojecting, frames):
    stream, other = reprojecting.stream(), reprojecting.stream()
    stream.step(frames[0])
    memory = stream.memory
    without_pose = replace(frames[1], world_from_ego=None, world_from_ego_at_camera=None)
    with pytest.raises(ValueError, match=r"world_from_ego must be given .* got none in frame"):
        step_together([other, stream], [frames[1], without_pose])
    without_cameras = replace(frames[1], images=[None] * len(frames[1].images), camera_mask=None)
    with pytest.raises(ValueError, match="must have a working camera"):
        stream.step(without_cameras)
    assert stream.memory is memory and other.memory is None
    without_time = replace(frames[1], timestamp_us=0)
    other.step(without_time)
    with pytest.raises(ValueError, match=r"timestamp_us must be given .* got 0 twice"):
        other.step(without_time)


def test_streams_that_do_not_belong_together_are_refused(reprojecting, frames):
    stream = reprojecting.stream()
    with pytest.raises(ValueError, match="distinct"):
        step_together([stream, stream], frames[:2])
    with pytest.raises(ValueError, match="of one detector"):
        step_together([stream, build(CONFIG).stream()], frames[:2])
    for streams in ([], [stream]):
        with pytest.raises(ValueError, match="one per stream, for at least one stream"):
            step_together(streams, frames[:0])


def test_a_model_of_one_frame_streams_without_history(frames):
    detector = build(CONFIG)
    stream = detector.stream()
    without_pose = replace(frames[0], world_from_ego=None, world_from_ego_at_camera=None)
    for frame in (without_pose, without_pose):
        found, wanted = stream.step(frame), detector.predict(frame)
        assert torch.equal(found.scores, wanted.scores)
        assert stream.memory is None and stream.reset is Reset.NONE


def test_a_model_that_uses_future_frames_predicts_clips(frames):
    detector = build(temporal((-1, 0, 1)))
    with pytest.raises(ValueError, match="must not look ahead in a stream"):
        detector.stream()
    with Outputs(detector) as outputs:
        detector.predict_clip(Clip(tuple(frames[:3]), (-1, 0, 1)))
        detector.predict_clip(Clip((frames[0], frames[1], None), (-1, 0, 1)))
        detector.predict_clip(Clip((None, frames[1], None), (-1, 0, 1)))
        detector.predict(frames[1])
    assert not torch.allclose(outputs[0].bev, outputs[1].bev, atol=1e-3)
    assert torch.equal(outputs[2].bev, outputs[3].bev)
    with pytest.raises(ValueError, match=r"offsets must be \(-1, 0, 1\); got \(-1, 0\)"):
        detector.predict_clip(Clip(tuple(frames[:2]), (-1, 0)))
