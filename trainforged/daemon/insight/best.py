"""The last and the best value of a series. Pure."""

from __future__ import annotations

import re

from trainforge.api import Series
from trainforge.api.page import LastAndBest

# Words in the name of what should fall; all else should rise.
_FALLS = re.compile(
    r"(?:^|[^a-z])(?:\w*loss|err|errors?|error_rate|ppl|perplexity|mae|mse|rmse|nll|wer|cer|fid|bpb|"
    r"seconds|time|latency|grad_norm|gradient_norm)(?:$|[^a-z])",
    re.IGNORECASE,
)


def falls(name: str) -> bool:
    """Whether less of it is better, by its name alone."""
    return _FALLS.search(name) is not None


def last_and_best(series: Series) -> LastAndBest | None:
    """None of a series without values. Downsampled ones do: their extremes and their last value are kept."""
    if not series.value:
        return None
    pairs = [
        (value, step) for value, step in zip(series.numbers, series.step, strict=True) if value is not None
    ]
    choose = min if falls(series.name) else max
    value, step = choose(pairs, key=lambda pair: pair[0], default=(None, None))
    return LastAndBest(last=series.value[-1], best=value, best_step=step)
