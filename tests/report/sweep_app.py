"""A stand-in for the real command: jobs that write their summary at once, fail, or vanish without a trace."""

from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from atrc_exp.files import write_json
from atrc_exp.genotype import save, uniform
from atrc_exp.report.sweep import current_sweep, record_job

ConfigStore.instance().store(
    name="config",
    node={
        "name": "multi",
        "runs_dir": "runs",
        "seed": 0,
        "stage": {"name": "retrain"},
        "tasks": ["depth"],
        "fail": [],
        "vanish": [],
        "hydra": {
            "output_subdir": None,
            "sweep": {"dir": "${runs_dir}/.multirun", "subdir": "."},
            "job_logging": {"root": {"handlers": ["console"]}},
            "callbacks": {"sweep": {"_target_": "atrc_exp.report.sweep.SweepCallback"}},
        },
    },
)


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(config: DictConfig) -> None:
    folder = Path(config.runs_dir) / config.name / f"seed{config.seed}"
    if config.seed in config.vanish:
        return
    error = f"seed {config.seed} was told to fail" if config.seed in config.fail else None
    if error is None and not (folder / "summary.json").is_file():
        run(config, folder)
    sweep_id, number = current_sweep(), HydraConfig.get().job.num
    status = "failed" if error else "done"
    record_job(config.runs_dir, sweep_id, number, folder, config.name, config.stage.name, status, error)


def run(config: DictConfig, folder: Path) -> None:
    tasks = list(config.tasks)
    summary = {
        "version": 1,
        "stage": config.stage.name,
        "dataset": {"name": "rooms", "fingerprint": "0123456789abcdef"},
        "backbone": "hrnet_w18_small_v2",
        "distillation": "search" if config.stage.name == "search" else "none",
        "tasks": tasks,
        "iteration": 40,
        "headline": dict.fromkeys(tasks, 0.5 + config.seed),
    }
    if config.stage.name == "search":
        save(uniform(tasks, "global"), folder / "genotype.json")
    write_json(folder / "summary.json", summary)
    with (folder.parent.parent / "log").open("a") as log:
        log.write(f"{config.name}/seed{config.seed} ran\n")


if __name__ == "__main__":
    main()
