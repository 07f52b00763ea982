"""Objects that a configuration describes by several of its keys: the tasks of a run and the genotype of a network."""

from atrc_exp.config.root import Config
from atrc_exp.genotype import NONE, Genotype, load, uniform
from atrc_exp.tasks import Task, build_tasks


def build_tasks_of(config: Config) -> tuple[Task, ...]:
    """Tasks of the run with the dataset's facts and the configured weights."""
    return build_tasks(
        config.task_names,
        num_classes=config.dataset.num_classes,
        edge_positive_weight=config.dataset.edge_positive_weight,
        edge_max_distance=config.dataset.edge_max_distance,
        rows=config.dataset.rows,
        weights=config.loss_weights,
        forms=config.task_forms,
        losses=config.task_losses,
    )


def genotype_of(config: Config) -> Genotype | None:
    """The genotype of a fixed ATRC network: `genotype`, or all none, with `genotype_blocks` on top; else None.

    Without `distillation.self_attention` the blocks from a task to itself are none.

    Raises:
        UserError: no such genotype, or blocks that it does not have.
    """
    if config.distillation.name != "atrc":
        return None
    genotype = load(config.genotype) if config.genotype else uniform(config.task_names, NONE)
    genotype = genotype.changed(config.genotype_blocks)
    return genotype if config.distillation.self_attention else genotype.without_self_attention()
