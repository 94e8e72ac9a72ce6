"""
The exponent of growth: the slope of a line through the logarithms of sizes and seconds.

It is fitted to the upper half of the sizes, where costs that are paid once no longer hide how the others grow. 1 is
linear; a curve above ``WORSE_THAN_LINEAR`` is a defect, and what is between the two is what a machine's noise makes.
"""

import math
import statistics
from collections.abc import Sequence

__all__ = ["WORSE_THAN_LINEAR", "exponent"]

WORSE_THAN_LINEAR = 1.1


def exponent(points: Sequence[tuple[float, float]]) -> float:
    upper = sorted(points)[len(points) // 2 - (len(points) < 4) :] if len(points) > 2 else points
    logs = [(math.log(size), math.log(max(seconds, 1e-9))) for size, seconds in upper]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope
