"""Live inference over a folder of frames: moments one after the other, or from a second process."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bevstack.runtime.detector import Detector
from bevstack.runtime.devices import choose_device
from bevstack.runtime.frame_source import FrameSource, open_frames
from bevstack.runtime.loading import load
from bevstack.runtime.predict_frames import (
    check_history,
    frame_interval_s,
    step_if_visible,
    track_identities,
)
from bevstack.runtime.stream_protocol import FrameDetector, Stream, StreamState, sector_trust
from bevstack.runtime.tracked import TrackedDetector
from bevstack.types import Reset
from bevstack.viewer.drive_pictures import DrivePictures
from bevstack.viewer.growing import GrowingDrive
from bevstack.viewer.moment import Moment
from bevstack.viewer.stream_moments import StreamMoments

_PACKAGE = Path(__file__).resolve().parents[1]
_END_S = 1.0  # for the process to end, before it is killed


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """Frames of a drive and the detector that runs over them."""

    rig: Path  # rig file
    images: Path  # folder or table of the frames, as ``open_frames`` takes them
    weights: str  # file, or name of packaged weights
    device: str = "auto"
    precision: str = "float32"
    verify: bool = True  # the checksum of packaged weights
    lost: tuple[str, ...] = ()  # cameras without pictures
    interval_s: float | None = None  # None: all frames
    history: bool = True  # False: each frame by itself
    track: bool = False
    allow_outside: bool = False  # the table may name files outside of the folder

    def open_source(self) -> FrameSource:
        """Open the frames; a listed picture that is missing leaves its camera without one.

        Raises:
            FileNotFoundError: the rig or the folder does not exist.
            ValueError: a file does not have its format, or the folder has no frames.
        """
        return open_frames(
            self.rig,
            self.images,
            lost=self.lost,
            allow_outside=self.allow_outside,
            skip_missing=True,
        )

    def load_detector(self) -> FrameDetector:
        """Load the detector.

        Raises:
            FileNotFoundError: there are no such weights.
            ValueError: the weights are damaged, or the device is not there.
        """
        device = choose_device(self.device)
        detector: Detector = load(
            self.weights, device, verify=self.verify, precision=self.precision
        )
        return TrackedDetector(detector) if self.track else detector


def infer(options: InferenceOptions) -> Iterator[Moment]:
    """Yield the moments of a drive, each as soon as it is computed.

    Raises:
        FileNotFoundError: the rig, the frames, a picture or the weights do not exist.
        ValueError: a file is damaged, or the frames lack poses that the model needs.
    """
    source = options.open_source()
    yield from infer_frames(options.load_detector(), source, options)


def infer_frames(
    detector: FrameDetector, source: FrameSource, options: InferenceOptions
) -> Iterator[Moment]:
    """Yield the moments of a source's frames; of the options, those of the frames count.

    Raises:
        FileNotFoundError: a picture does not exist any more.
        ValueError: a picture is damaged, or the frames lack poses that the model needs.
    """
    if options.history:
        check_history(detector, source)
    stream = detector.stream() if options.history else None
    interval_s = frame_interval_s(detector, source, options.interval_s)
    pictures = DrivePictures(source, interval_s)
    scene = source.files.folder.absolute().name or "drive"
    moments = StreamMoments(scene, Path(options.weights).stem, class_names=detector.class_names)
    last = StreamState(reset=Reset.NONE)
    for frame in source.frames(interval_s=interval_s):
        cameras = pictures.views(frame)
        if stream is None:
            detections = detector.predict(frame)
            state = StreamState(reset=Reset.NONE, sectors=sector_trust(detector, frame))
        else:
            detections = step_if_visible(stream, frame)
            last, state = stream.state, _fresh(stream, last)
        yield moments.moment(
            frame,
            detections,
            state,
            identities=track_identities(stream, detections),
            cameras=cameras,
        )


def _fresh(stream: Stream, last: StreamState) -> StreamState:
    """Return the state after a step; without the cues of earlier steps, if none was made now."""
    state = stream.state
    if state.elements is None or state.elements is not last.elements:
        return state
    return replace(state, elements=None, cues=(), ego_cues=())


class InferenceProcess:
    """A process that computes moments, and a thread that puts them into a drive.

    A step of a model cannot be interrupted, but its process can: ``stop`` takes no longer than a
    second. It also leaves this process free for its viewers.

    Args:
        options: the frames and the detector.
        drive: takes the moments.
        num_frames: number of frames, for the line on the growth; None: unknown.
    """

    def __init__(
        self, options: InferenceOptions, drive: GrowingDrive, *, num_frames: int | None = None
    ) -> None:
        self._drive, self._num_frames = drive, num_frames
        self._stopped = False
        context = multiprocessing.get_context("spawn")  # a fork would inherit threads and sockets
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_compute, args=(options, sender), name="inference", daemon=True
        )
        self._process.start()
        sender.close()  # so that the end of the process ends the pipe
        self._thread = threading.Thread(target=self._receive, name="moments", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the process and the thread."""
        self._stopped = True
        self._process.terminate()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_END_S)
        self._thread.join(_END_S)

    def _receive(self) -> None:
        """Put what comes into the drive, until the process ends."""
        failure: Exception | None = None
        done = 0
        while True:
            try:
                received = self._receiver.recv()
            except (EOFError, OSError):
                break
            if isinstance(received, Moment):
                done += 1
                total = "" if self._num_frames is None else f" of {self._num_frames}"
                self._drive.report(f"{done}{total} frames computed")
                self._drive.add(received)
            elif isinstance(received, str):
                warnings.warn(received, stacklevel=1)
            else:
                failure = received
        self._process.join(_END_S)
        if self._stopped:
            failure = None
        elif failure is None and self._process.exitcode not in (0, None):
            failure = RuntimeError(
                f"inference must end with code 0; got {self._process.exitcode}: see its messages"
            )
        self._drive.end(failure)
        if failure is not None and done:  # else there is nothing to show, and the caller raises it
            warnings.warn(f"inference has {self._drive.progress}", stacklevel=1)


def _compute(options: InferenceOptions, sender: Connection) -> None:
    """Send moments, warnings as texts, and at last an error of the input if there is one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the parent decides

    show_as_usual = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, *more: Any, **named: Any
    ) -> None:
        if _PACKAGE in Path(filename).resolve().parents:
            sender.send(str(message))
        else:
            show_as_usual(message, category, filename, *more, **named)

    # A viewer that is gone needs no moment.
    with contextlib.suppress(BrokenPipeError), warnings.catch_warnings():
        warnings.showwarning = show
        try:
            for moment in infer(options):
                sender.send(moment)
        except BrokenPipeError:
            raise
        except (OSError, ImportError) as error:
            sender.send(error)
        except ValueError as error:  # of any kind: some cannot be sent
            sender.send(ValueError(str(error)))
