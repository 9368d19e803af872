"""The first pass of the node, before its first window."""

import gc

import bevstack
from bevstack.runtime.node.warm_up import warm_up


def test_warm_up_spares_later_garbage_collections_the_objects_of_the_start() -> None:
    detector = bevstack.load("tiny_cpu_t4")
    gc.unfreeze()
    try:
        warm_up(detector, ("CAM_FRONT", "CAM_BACK"))
        assert gc.get_freeze_count() > 10_000  # the modules' alone are more than that
        assert len(gc.get_objects()) < gc.get_freeze_count()
    finally:
        gc.unfreeze()
