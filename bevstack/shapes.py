"""Shape checks for public doors: one line a tensor, and an error that says what was got."""

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
    """Checks the shape of a tensor or array and returns the sizes of its named axes.

    Args:
        name: what the tensor is called in the caller's signature, for the message.
        array: anything with a ``shape``.
        axes: one entry an axis: an integer is an exact size, a string is a named size that must
            agree wherever the same name stands, and ``"..."`` first stands for any leading axes.
        sizes: sizes bound by earlier checks, so that several tensors must agree.

    Returns:
        ``sizes`` with the newly bound names added (the argument is not changed).

    Raises:
        ValueError: names the tensor, the wanted axes and the shape that was got.

    Example:
        >>> sizes = expect_shape("value", value, ("B", "S", "M", 16))
        >>> expect_shape("weights", weights, ("B", "Q", "M"), sizes)
    """
    bound = dict(sizes or {})
    shape = tuple(array.shape)
    wanted = axes[1:] if axes and axes[0] == "..." else axes
    trailing = shape[len(shape) - len(wanted) :]
    rank_fits = len(shape) >= len(wanted) if wanted is not axes else len(shape) == len(wanted)
    fits = rank_fits
    for axis, size in zip(wanted, trailing, strict=False) if rank_fits else ():
        expected = axis if isinstance(axis, int) else bound.setdefault(axis, size)
        fits = fits and size == expected
    if not fits:
        raise ValueError(f"{name} must have shape {_describe(axes, sizes or {})}; got {shape}")
    return bound


def _describe(axes: tuple[int | str, ...], sizes: dict[str, int]) -> str:
    named = [f"{a}={sizes[a]}" if isinstance(a, str) and a in sizes else str(a) for a in axes]
    return f"({', '.join(named)})"
