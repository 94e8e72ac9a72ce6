"""The curves as SVG: logarithms on both axes, a file for each plot, the same bytes for the same figures."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmarks.fit import exponent
from benchmarks.report import Curve

__all__ = ["draw"]


def draw(curves: Iterable[Curve], directory: Path) -> list[Path]:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"})
    from matplotlib import pyplot as plt

    directory.mkdir(parents=True, exist_ok=True)
    plots: dict[str, list[Curve]] = defaultdict(list)
    for curve in curves:
        plots[curve.plot].append(curve)
    written = []
    for name, members in plots.items():
        figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
        several = len({curve.database for curve in members}) > 1
        for curve in members:
            sizes, seconds = zip(*curve.points, strict=True)
            label = f"{curve.what}{f', {curve.database}' if several else ''}"
            if len(curve.points) > 1:
                label += f" (exponent {exponent(curve.points):.2f})"
            axes.loglog(
                sizes,
                seconds,
                "--" if curve.is_base else "-",
                marker="." if curve.is_base else "o",
                markersize=4,
                label=label,
            )
        axes.set_xlabel(members[0].axis)
        axes.set_ylabel("seconds")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize=7)
        path = directory / f"{name}.svg"
        figure.savefig(path, metadata=dict.fromkeys(["Date", "Creator", "Format", "Type"]))
        plt.close(figure)
        text = re.sub(r"<!DOCTYPE.*?>\n", "", path.read_text("utf-8"), flags=re.DOTALL)
        path.write_text(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE), "utf-8")
        written.append(path)
    return written
