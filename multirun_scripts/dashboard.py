"""Saved views of runs in Weights & Biases, and a report that compares sweeps.

    python multirun_scripts/dashboard.py --entity ENTITY --project PROJECT [--tasks semseg depth] [--sweeps NAME NAME]
    python multirun_scripts/dashboard.py --entity ENTITY --project PROJECT ... --push

The first line prints what the second one saves; it needs neither key nor network. Seeds of one `name` are a W&B group:
lines show their mean, bands run from the smallest to the largest. Every push makes new views; remove older ones in W&B.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from atrc_exp.config import LoggerConfig
from atrc_exp.errors import UserError, missing_extra
from atrc_exp.genotype import candidates
from atrc_exp.tasks import TASKS, Task, build_tasks

try:
    import wandb
    import wandb_workspaces.expr as runs
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
except ImportError as error:
    raise SystemExit(f"error: {missing_extra('the dashboard', [str(error.name)], 'dashboard')}") from None

_SEEDS = {"groupby": "Group", "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
_PROGRESS = ("search/entropy", "search/frozen", "search/temperature", "search/entropy_weight")
_SYSTEM = ("train/seconds_per_step", "train/memory_mib", "train/lr")
_OTHER_METRICS = {
    "miou": ("pixel_accuracy",),
    "max_f": ("max_f_mean_pr", "max_f_mean_f"),
    "rmse": ("rmse_per_image", "invalid_pixels"),
    "mean_error": ("median", "rmse", "within_11.25", "within_22.5", "within_30", "invalid_pixels"),
    "ods_f": ("ois_f", "ap"),
}
_IMAGES = LoggerConfig().images
_NYUD = ("semseg", "depth", "normals", "edge")


def views(entity: str, project: str, names: Sequence[str], images: int = _IMAGES) -> list[ws.Workspace]:
    """The saved views of a project whose runs have the tasks `names`.

    Args:
        images: `logger.images` of the runs.

    Raises:
        UserError: an unknown task.
    """
    tasks = _tasks(names)
    grouped = [runs.Metric("Group")]
    columns = ["run:displayName", "config:seed.value", *(f"summary:{_headline(task)}" for task in tasks)]
    searches = {"filters": runs.And(runs.Metric("JobType") == "search")}

    def view(name: str, sections: dict[str, list[Any]], **runset: Any) -> ws.Workspace:
        opened = [ws.Section(name=title, panels=panels, is_open=True) for title, panels in sections.items()]
        runset_settings = ws.RunsetSettings(pinned_columns=list(columns), **runset)
        return ws.Workspace(entity=entity, project=project, name=name, sections=opened, runset_settings=runset_settings)

    return [
        view("Sweep overview", _overview(tasks), groupby=grouped),
        view("Search dynamics", _search_dynamics(names), groupby=grouped, **searches),
        view("Losses and metrics by task", {task.title: _of_task(task) for task in tasks}, groupby=grouped),
        view("Predictions", _predictions(images)),
        view("System", {"Steps": [_seeds(key) for key in _SYSTEM]}, groupby=grouped),
    ]


def report(entity: str, project: str, names: Sequence[str], sweeps: Sequence[str]) -> wr.Report:
    """A report that sets sweeps side by side: final scores, curves, and the differences of their configurations.

    Args:
        sweeps: names of runs (`name=`), the groups to compare; none compares all groups of the project.

    Raises:
        UserError: an unknown task.
    """
    tasks = _tasks(names)
    # a run set without a project is of the report's own; with one, building it would ask the server
    chosen = {"filters": runs.And(runs.Metric("Group").isin(list(sweeps)))} if sweeps else {}

    def grid(panels: list[Any]) -> wr.PanelGrid:
        return wr.PanelGrid(runsets=[wr.Runset(name="Sweeps", groupby=["group"], **chosen)], panels=panels)

    final = [
        wr.BarPlot(title=f"{_title(task)}, last validation", metrics=[_headline(task)], **_SEEDS) for task in tasks
    ]
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Comparison of {', '.join(sweeps) or 'all sweeps'}"[:128],
        description="Means over the seeds of each name; bands from the smallest to the largest.",
        width="fluid",
        blocks=[
            wr.H1("Scores"),
            grid(final),
            wr.H1("Scores over the training"),
            grid([_seeds(_headline(task), title=_title(task)) for task in tasks]),
            wr.H1("Losses"),
            grid([_seeds("train/loss"), _seeds("val/loss"), *(_seeds(f"val/{name}/loss") for name in names)]),
            wr.H1("Cost"),
            grid([_seeds(key) for key in _SYSTEM]),
            wr.H1("Differences of the configurations"),
            grid([wr.RunComparer(diff_only="split", layout=wr.Layout(w=24, h=12))]),
        ],
    )


def _overview(tasks: Sequence[Task]) -> dict[str, list[Any]]:
    scores = [_seeds(_headline(task), title=_title(task)) for task in tasks]
    losses = [_seeds("train/loss"), _seeds("val/loss"), *(_seeds(f"val/{task.name}/loss") for task in tasks)]
    return {"Scores": scores, "Losses": losses}


def _search_dynamics(names: Sequence[str]) -> dict[str, list[Any]]:
    sections = {"Progress": [_seeds(key) for key in _PROGRESS]}
    for target in names:
        sections[f"Contexts of {target}"] = [
            _seeds(*(f"search/probabilities/{target}/{source}/{context}" for context in candidates(target, source)),
                   title=f"{target} <- {source}", range_y=(0, 1))
            for source in names
        ]  # fmt: skip
    return sections


def _of_task(task: Task) -> list[Any]:
    """Both losses, the headline metric, and the others that are computed with it."""
    losses = [_seeds(f"train/{task.name}", f"train/{task.name}_aux", title="training"), _seeds(f"val/{task.name}/loss")]
    others = [_seeds(f"val/{task.name}/{key}") for key in _OTHER_METRICS[task.metric]]
    return [*losses, _seeds(_headline(task), title=_title(task)), *others]


def _predictions(images: int) -> dict[str, list[Any]]:
    def media(key: str) -> wr.MediaBrowser:
        return wr.MediaBrowser(title=key, media_keys=[key], num_columns=1)

    first = [media(f"predictions/{number}") for number in range(1, images + 1)]
    return {"Validation images": first, "Genotype": [media("genotype")]}


def _seeds(*keys: str, **settings: Any) -> wr.LinePlot:
    """One line a key and name: the mean over seeds in the band of all of them."""
    return wr.LinePlot(**{"title": keys[0], "x": "Step", "y": list(keys), **_SEEDS, **settings})


def _tasks(names: Sequence[str]) -> tuple[Task, ...]:
    classes = dict.fromkeys(TASKS, 2)  # no key depends on their number
    return build_tasks(names, num_classes=classes, edge_positive_weight=0.5, edge_max_distance=0.01)


def _headline(task: Task) -> str:
    return f"val/{task.name}/{task.metric}"


def _title(task: Task) -> str:
    return f"{task.title}: {task.metric} ({'higher' if task.higher_is_better else 'lower'} is better)"


def outline(name: str, panels: dict[str, list[Any]]) -> str:
    """A view or report as text: its panels by section, with the keys that each shows."""
    lines = [name]
    for section, shown in panels.items():
        lines.append(f"  {section}")
        lines += [f"    {type(panel).__name__}: {', '.join(panel_keys(panel)) or 'the runs'}" for panel in shown]
    return "\n".join(lines)


def panel_keys(panel: Any) -> list[str]:
    """The logged keys that a panel shows."""
    return [str(key) for field in ("y", "metrics", "media_keys") for key in getattr(panel, field, [])]


def push(saved: Sequence[ws.Workspace | wr.Report]) -> None:
    """Save views and reports on the server and print their addresses.

    Raises:
        UserError: no key, no connection, or a refusal of the server.
    """
    try:
        if not wandb.login(prompt=False, verify=True):
            raise UserError("no W&B API key: run `wandb login` or set WANDB_API_KEY, then start the same command again")
        for item in saved:
            item.save()
            print(item.url)
    except UserError:
        raise
    except Exception as error:  # wandb-workspaces raises plain exceptions for refusals
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise UserError(
            f"W&B cannot be reached or refuses: {reason}; check the network, the key (`wandb login`), and that "
            "--entity and --project exist"
        ) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the views and the report, or push them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", required=True, help="user or team that owns the project")
    parser.add_argument("--project", default=LoggerConfig().project, help="logger.project of the runs")
    parser.add_argument("--tasks", nargs="+", default=_NYUD, metavar="TASK", help="tasks of the runs")
    parser.add_argument("--images", type=int, default=_IMAGES, help="logger.images of the runs")
    parser.add_argument("--sweeps", nargs="+", default=(), metavar="NAME", help="names of the runs to compare")
    parser.add_argument("--push", action="store_true", help="save them; needs an API key")
    options = parser.parse_args(arguments)
    made = views(options.entity, options.project, options.tasks, options.images)
    compared = report(options.entity, options.project, options.tasks, options.sweeps)
    if options.push:
        push([*made, compared])
        return
    for view in made:
        print(outline(f"View: {view.name}", {section.name: section.panels for section in view.sections}))
    titles = [block.text for block in compared.blocks if isinstance(block, wr.H1)]
    grids = [block.panels for block in compared.blocks if isinstance(block, wr.PanelGrid)]
    print(outline(f"Report: {compared.title}", dict(zip(titles, grids, strict=True))))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
