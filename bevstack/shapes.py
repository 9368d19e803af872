"""Shape checks of arguments: one line a tensor, and an error with the expected and given shape."""

from __future__ import annotations

from typing import Protocol


class _HasShape(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


def expect_shape(
    name: str,
    array: _HasShape,
    axes: tuple[int | str, ...],
    sizes: dict[str, int] | None = None,
) -> dict[str, int]:
    """Check the shape of a tensor or array and return the sizes of its named axes.

    Args:
        name: the name of the tensor in the caller's signature, for the message.
        array: any object with a ``shape``.
        axes: one entry an axis. An integer is an exact size. A string is a named size, which must
            be the same for every axis of that name. ``"..."`` in front permits any leading axes.
        sizes: sizes of named axes from earlier checks, which this tensor must agree with.

    Returns:
        ``sizes`` and the sizes of the new names (the argument is not changed).

    Raises:
        ValueError: the shape differs; the message names the tensor, the expected axes and the
            given shape.

    Example:
        >>> sizes = expect_shape("value", value, ("B", "S", "M", 16))
        >>> expect_shape("weights", weights, ("B", "Q", "M"), sizes)
    """
    bound = dict(sizes or {})
    shape = tuple(array.shape)
    expected = axes[1:] if axes and axes[0] == "..." else axes
    trailing = shape[len(shape) - len(expected) :]
    rank_fits = len(shape) >= len(expected) if expected is not axes else len(shape) == len(expected)
    fits = rank_fits
    for axis, size in zip(expected, trailing, strict=False) if rank_fits else ():
        # A traced size is no int, but no name either.
        expected_size = bound.setdefault(axis, size) if isinstance(axis, str) else axis
        fits = fits and size == expected_size
    if not fits:
        raise ValueError(f"{name} must have shape {_describe(axes, sizes or {})}; got {shape}")
    return bound


def _describe(axes: tuple[int | str, ...], sizes: dict[str, int]) -> str:
    named = [f"{a}={sizes[a]}" if isinstance(a, str) and a in sizes else str(a) for a in axes]
    return f"({', '.join(named)})"
