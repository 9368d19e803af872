"""Tables of scores: coloured tables for a terminal, else the tables of nuscenes-devkit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bevstack.cli.tables import make_table, print_table, show_table

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.evaluation.analysis.bootstrap import Interval
    from bevstack.evaluation.analysis.breakdown import GroupMetrics
    from bevstack.evaluation.detection3d.metrics import DetectionMetrics
    from bevstack.evaluation.scoring import Scored

ERROR_TITLES = ("ATE\nm", "ASE\n1-IoU", "AOE\nrad", "AVE\nm/s", "AAE\n1-acc")
GOOD, FAIR = 0.5, 0.25  # lowest average precision shown in green and in yellow


def print_class_table(console: Console, name: str, scored: Scored) -> None:
    """Print the means and one row for each class, highest average precision first."""
    from rich.markup import escape

    metrics, truth = scored.metrics, scored.loaded.truth
    table = make_table(
        console,
        ("class", "AP", *ERROR_TITLES),
        title=f"{escape(name)}: NDS [bold]{metrics.nds:.4f}[/], mAP [bold]"
        f"{metrics.mean_average_precision:.4f}[/]",
    )
    table.caption = (
        f"{len(truth.boxes.sample_tokens)} samples, "
        f"{len(scored.loaded.submission.boxes)} predictions, {len(truth.boxes)} true boxes, "
        f"scored in {scored.seconds:.2f} s"
    )
    mean = (metrics.mean_average_precision, *metrics.errors.values)
    table.add_row("mean", *map(format_figure, mean), style="bold", end_section=True)
    for scores in sorted(metrics.classes, key=lambda c: -c.average_precision):
        colour = _colour(scores.average_precision)
        precision = f"[{colour}]{scores.average_precision:.4f}[/]"
        table.add_row(scores.name, precision, *map(format_figure, scores.errors.values))
    show_table(console, table)


def print_devkit_table(metrics: DetectionMetrics, seconds: float, *, per_class: bool) -> None:
    """Print the same lines as nuscenes-devkit."""
    print(f"mAP: {metrics.mean_average_precision:.4f}")
    for title, value in zip(ERROR_TITLES, metrics.errors.values, strict=True):
        print(f"m{title[:3]}: {value:.4f}")
    print(f"NDS: {metrics.nds:.4f}")
    print(f"Eval time: {seconds:.1f}s")
    if not per_class:
        return
    print("\nPer-class results:")
    names = ["AP", *(title[:3] for title in ERROR_TITLES)]
    print(f"{'Object Class':20}\t" + "\t".join(f"{name:6}" for name in names))
    for scores in metrics.classes:
        values: Sequence[float] = (scores.average_precision, *scores.errors.values)
        print(f"{scores.name:20}\t" + "\t".join(f"{value:<6.3f}" for value in values))


def print_metrics(
    console: Console, rows: Sequence[tuple[str, DetectionMetrics]], *, per_class: bool = False
) -> None:
    """Print NDS, mAP and the mean errors of each row; then optionally its classes."""
    titles = ["", "NDS", "mAP", *(f"m{title[:3]}" for title in ERROR_TITLES)]
    lines = [
        (name, *map(format_figure, (m.nds, m.mean_average_precision, *m.errors.values)))
        for name, m in rows
    ]
    print_table(console, titles, lines)
    for name, metrics in rows if per_class else ():
        console.print()
        titles = [name, "AP", *(title[:3] for title in ERROR_TITLES)]
        lines = [
            (c.name, *map(format_figure, (c.average_precision, *c.errors.values)))
            for c in metrics.classes
        ]
        print_table(console, titles, lines)


def print_groups(console: Console, groups: Sequence[GroupMetrics]) -> None:
    """Print one row for each group that has true boxes, sorted by family."""
    table = make_table(console, ("group", "true boxes", "mAP", *ERROR_TITLES))
    groups = [group for group in groups if group.num_truth]
    families = [group.family for group in groups]
    for number, group in enumerate(groups):
        name = group.name if group.family == "all" else f"{group.family}: {group.name}"
        figures = (group.mean_average_precision, *group.errors.values)
        is_last = families[number + 1 : number + 2] != [group.family]
        table.add_row(name, str(group.num_truth), *map(format_figure, figures), end_section=is_last)
    show_table(console, table)


def print_comparison(
    console: Console, name: str, other: str, differences: Sequence[Interval]
) -> None:
    """Print the scores of another submission minus those of this one, with their intervals."""
    from rich.markup import escape

    from bevstack.evaluation.analysis.bootstrap import FEWEST_SCENES, LEVEL

    difference = f"{escape(other)}\nminus {escape(name)}"
    table = make_table(console, ("figure", difference, f"{100 * LEVEL:g} % of draws", ""))
    for interval in differences:
        low, high = _format_difference(interval.low), _format_difference(interval.high)
        verdict = "beyond chance" if interval.is_beyond_chance else ""
        value = _format_difference(interval.value)
        table.add_row(interval.name, value, f"{low} to {high}", verdict)
    show_table(console, table)
    count = differences[0].num_scenes
    if count < FEWEST_SCENES:
        console.print(
            f"note: {count} scenes are too few for reliable intervals, so no difference is called "
            f"beyond chance; {FEWEST_SCENES} are needed"
        )


def format_figure(value: float) -> str:
    """Return a score with four digits, or a dash for NaN: the class has no such error."""
    return "-" if value != value else f"{value:.4f}"


def _format_difference(value: float) -> str:
    """Return a difference with its sign, or a dash for NaN: a figure is undefined."""
    return "-" if value != value else f"{value:+.4f}"


def _colour(precision: float) -> str:
    return "green" if precision >= GOOD else "yellow" if precision >= FAIR else "red"
