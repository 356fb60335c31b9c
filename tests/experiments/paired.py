"""Means with their standard errors, and paired differences, for the tables of the experiments. Needs nothing but Python."""

import statistics

# 97.5 % quantiles of Student's t distribution, by degrees of freedom from 1.
QUANTILES = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]


def error(values):
    """Returns the standard error of the mean, or None for a single value."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def mean(values, digits=2):
    """Returns the mean with its standard error, e.g. `94.20 ± 0.05 (n = 6)`."""
    found = error(values)
    plus = "" if found is None else f" ± {found:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f}{plus} (n = {len(values)})"


def difference(values, others, digits=2):
    """Returns the mean difference of values of equal seeds, and whether a paired t-test tells them apart at 5 %."""
    if len(values) != len(others) or len(values) < 2:
        return "-"
    found = [a - b for a, b in zip(values, others)]
    limit = QUANTILES[min(len(found) - 1, len(QUANTILES)) - 1] * error(found)
    verdict = "differs" if abs(statistics.mean(found)) > limit else "not told apart"
    return f"{statistics.mean(found):+.{digits}f} ± {error(found):.{digits}f}, {verdict}"
