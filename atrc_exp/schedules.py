"""Schedules as pure functions of the iteration (App. A). A resumed run needs nothing but its iteration."""


def poly(iteration: int, iterations: int, power: float) -> float:
    """Factor (1 - iteration / iterations) ** power of the learning rate, 1 at iteration 0."""
    return (1.0 - iteration / iterations) ** power


def linear(iteration: int, iterations: int, first: float, last: float) -> float:
    """Value that runs linearly from `first` at iteration 0 to `last` at iteration `iterations`.

    A run of so many iterations ends one step before `last`, as in the published search.
    """
    return first + (last - first) * iteration / iterations


def due(iteration: int, every: int, iterations: int) -> bool:
    """Whether something done every so many completed iterations, and after the last one, is due now."""
    return iteration % every == 0 or iteration == iterations
