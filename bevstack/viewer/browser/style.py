"""Style of the page beyond viser's own: colours of its words, and room for the camera strip."""

from __future__ import annotations

STRIP_ID = "camera-strip"
DIM = "#a9b0ba"  # of the names of controls: 4.5 times as light as their ground, and more
TAB = "#8fc1ff"

# viser warns of a browser without a GPU in a notice over the scene, until it is closed.
PAGE = f"""<style>
#webgl-software-rendering {{ display: none }}
[data-dock-root] label, [data-dock-root] .mantine-Slider-markLabel {{ color: {DIM} }}
[data-dock-root] .mantine-Slider-markLabel {{ font-size: 12px !important }}
[data-dock-root] .mantine-Button-label {{ font-size: 12.5px }}
[data-dock-root] [role=tab], [data-dock-root] [role=tab] * {{ color: {TAB} }}
</style>"""


def room_below_scene(height_px: int) -> str:
    """Return the style that ends the scene above the strip, as long as the strip is open."""
    return (
        f"<style>[data-dock-root]:has(#{STRIP_ID}) > div:has(canvas[data-engine]) "
        f"{{ bottom: {height_px}px !important }}</style>"
    )
