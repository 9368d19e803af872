"""Videos of a rig's cameras, read picture by picture."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.images import find_jpeg_damage
from bevstack.files import naming

# First bytes of the accepted containers. Playlists, which name further files, are none of them.
_MKV, _AVI = b"\x1a\x45\xdf\xa3", (b"RIFF", b"AVI ")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


class VideoReader:
    """Reader of a video's pictures in ascending order; one picture is in memory at a time.

    The pictures of an MJPEG video are checked like JPEG files. Decoders of other kinds hide damage
    inside a picture. The number of a picture decides its time, not the clock in the container. A
    disagreement of the two by more than a picture is a warning: pictures are missing, or the frame
    rate is another one.

    Args:
        path: an MP4, MOV, MKV, WebM or AVI file that OpenCV can decode.
        camera: the camera's name, for messages.
        image_size: the (height, width) that the pictures must have.
        fps: pictures a second, as the caller states them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a regular file, not a video of these kinds, or of another size.
    """

    def __init__(self, path: Path, camera: str, *, image_size: tuple[int, int], fps: float) -> None:
        check_video_file(path, camera)
        self.path, self.camera, self.fps = path, camera, fps
        # An absolute path: FFmpeg would take "http:..." as the name of a protocol.
        self._capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise ValueError(
                f"video of {camera} must be undamaged and of a kind that OpenCV decodes; got "
                f"{path}: copy it again, or convert it to MP4"
            )
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # calibrations are of stored pixels
        self._check_size(image_size)
        self._count = 0  # pictures taken from the file
        self._image: NDArray[np.uint8] | None = None  # the last of them, once it is decoded
        self.num_pictures: int | None = None  # known at the end of the video
        self._clock_checked = False
        self._packets = _JpegPackets(path) if self._is_mjpeg() else None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.release()
        if self._packets is not None:
            self._packets.release()

    def picture(self, index: int) -> NDArray[np.uint8] | None:  # (H, W, 3) RGB
        """Return a picture by its number from 0, None if it is damaged or after the end.

        Raises:
            ValueError: an earlier picture than the last one is asked for.

        Warns:
            UserWarning: the picture is damaged, or fps differs from the clock in the file.
        """
        if index < self._count - 1:
            raise ValueError(f"pictures of {self.path} must be read in order; got {index}")
        while self._count <= index and self._advance():
            pass
        if self._count <= index:
            return None
        if self._image is None:
            is_whole, image = self._capture.retrieve()
            damage = None if self._packets is None else self._packets.find_damage(index)
            if not is_whole or damage:
                warnings.warn(
                    f"camera {self.camera} counts as lost in picture {index} of {self.path}, which "
                    f"is damaged ({damage or 'it does not decode'}): copy the video again",
                    stacklevel=3,
                )
                return None
            self._image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        return self._image

    def describe_end(self) -> str:
        """Describe how the video ended, such as "ends after 24 pictures"."""
        announced = round(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        count = self.num_pictures
        text = f"ends after {count} pictures"
        return f"{text} of {announced}: it is damaged or cut off" if self.is_short() else text

    def is_short(self) -> bool:
        """Return True if the video ended before the number of pictures in its header."""
        announced = round(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        # Some containers hold only a duration, from which the number is rounded.
        return self.num_pictures is not None and self.num_pictures < announced - 1

    def _advance(self) -> bool:
        if self.num_pictures is not None:
            return False
        if not self._capture.grab():
            self.num_pictures = self._count
            return False
        self._count, self._image = self._count + 1, None
        self._check_clock()
        return True

    def _is_mjpeg(self) -> bool:
        return int(self._capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"MJPG")

    def _check_size(self, image_size: tuple[int, int]) -> None:
        sides = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        height, width = (round(self._capture.get(side)) for side in sides)
        if (height, width) != image_size:
            self._capture.release()
            raise ValueError(
                f"video of {self.camera} must be {image_size[1]}x{image_size[0]} pixels, as in the "
                f"rig file; got {width}x{height} in {self.path}: intrinsics are valid for one size "
                "only"
            )

    def _check_clock(self) -> None:
        by_container_s = 1e-3 * self._capture.get(cv2.CAP_PROP_POS_MSEC)
        by_number_s = (self._count - 1) / self.fps
        if self._clock_checked or by_container_s <= 0:
            return
        if abs(by_container_s - by_number_s) > 1.01 / self.fps:
            self._clock_checked = True
            warnings.warn(
                f"picture {self._count - 1} of {self.path} should come {by_number_s:.3f} s after "
                f"the first, by fps {self.fps:g}; got {by_container_s:.3f} s in the file: times by "
                "fps are used; correct fps if they are wrong, or list pictures instead if the "
                "video has no constant rate",
                stacklevel=4,
            )


class _JpegPackets:
    """Pictures of an MJPEG video as the JPEG files that it holds."""

    def __init__(self, path: Path) -> None:
        raw = [cv2.CAP_PROP_FORMAT, -1]  # packets, not decoded
        self._capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG, raw)
        self._count = 0

    def find_damage(self, index: int) -> str | None:
        """Return a reason why a picture is damaged; pictures come in ascending order."""
        while self._count <= index and self._capture.grab():
            self._count += 1
        is_there, packet = self._capture.retrieve()
        return find_jpeg_damage(packet.tobytes()) if is_there else "its data are missing"

    def release(self) -> None:
        """Close the file."""
        self._capture.release()


def check_video_file(path: Path, camera: str) -> None:
    """Check that a file is a regular file with the first bytes of an accepted container.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, a device, or another kind of file.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"video of {camera} must exist; got no file {path}: if the camera is lost, add --lost "
            f"{camera}"
        )
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"video of {camera} must be a regular file; got {path}")
    with naming(path), path.open("rb") as file:
        start = file.read(12)
    is_avi = (start[:4], start[8:12]) == _AVI
    if not (start[:4] == _MKV or is_avi or start[4:8] in _MP4_BOXES):
        raise ValueError(
            f"video of {camera} must be an MP4, MOV, MKV, WebM or AVI file; got {path}, which "
            "starts as none of these: copy it again, or convert it to MP4"
        )
