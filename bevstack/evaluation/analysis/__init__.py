"""Analysis beyond the metric: groups, intervals, calibration, comparison, report."""
