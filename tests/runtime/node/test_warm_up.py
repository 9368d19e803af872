"""Preparations of the node, before its first window."""

import gc

import bevstack
from bevstack.runtime.node.warm_up import exclude_existing_from_collection, warm_up


def test_warm_up_leaves_garbage_collections_alone() -> None:
    detector = bevstack.load("tiny_cpu_t4")
    before = gc.get_freeze_count()
    warm_up(detector, ("CAM_FRONT", "CAM_BACK"))
    assert gc.get_freeze_count() == before


def test_later_garbage_collections_spare_the_objects_of_the_start() -> None:
    gc.unfreeze()
    try:
        exclude_existing_from_collection()
        assert gc.get_freeze_count() > 10_000  # the modules' alone are more than that
        assert len(gc.get_objects()) < gc.get_freeze_count()
    finally:
        gc.unfreeze()
