"""Lines of the pages that open the viewer, with the tests that run the same."""

from __future__ import annotations

_DATA = "--nuscenes nuscenes --version v1.0-mini"
_RESULTS = ("", " --results results.json", " --results results.json --against other.json")
VIEWER_LINES = {
    **{f"bevstack view{given} {_DATA}": "tests/cli/test_view.py" for given in _RESULTS},
    f"bevstack view --results results.json {_DATA} --record drive.rrd": (
        "tests/viewer/test_rerun_file.py"
    ),
    "bevstack view --rig drive/rig.json --images drive --weights tiny_cpu_t4 --track": (
        "tests/cli/test_view_live.py"
    ),
    "bevstack view --listen": "tests/cli/test_view_listen.py",
    "bevstack view --listen --domain 7 --record node.rrd": "tests/viewer/test_rerun_file.py",
    "bevstack view --bag results.mcap drive.mcap": "tests/cli/test_view_listen.py",
    f"python tools/picture_page.py page.png view{_RESULTS[2]} {_DATA}": (
        "tests/viewer/browser/test_page_picture.py"
    ),
    "python -m benchmarks.run viewer --nuscenes drive --version v1.0-synth --results drive.json": (
        "tests/benchmarks/test_viewer.py"
    ),
    "rerun drive.rrd": "tests/viewer/test_rerun_file.py",
}
