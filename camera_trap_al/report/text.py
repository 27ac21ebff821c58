"""The learning curve as lines of text, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["learning_curve"]

BAR_WIDTH = 40


def learning_curve(history: Sequence[Mapping[str, Any]]) -> str:
    """Draw validation accuracy against labels as lines of text.

    Parameters
    ----------
    history
        One mapping per evaluation with `train_set_size`, `accuracy` and `macro_f1` (0 to 1), as `RunResult` has them.
    """
    lines = [f"{'labels':>8}  {'accuracy':<{BAR_WIDTH + 7}}  macro F1"]
    for point in history:
        bar = "#" * round(BAR_WIDTH * point["accuracy"])
        lines.append(
            f"{point['train_set_size']:>8}  {bar:<{BAR_WIDTH}}  {point['accuracy']:.3f}  {point['macro_f1']:.3f}"
        )
    return "\n".join(lines)
