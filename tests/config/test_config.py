"""Schema, rules between keys, presets, and the messages a user sees."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from atrc_exp.config import Config
from atrc_exp.config.compose import CONF, typed
from atrc_exp.config.hydra_errors import explain
from atrc_exp.errors import UserError
from atrc_exp.genotype import PUBLISHED_GENOTYPES

PRESETS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def composed(*overrides: str) -> Config:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return typed(compose("config", overrides=list(overrides)))


def message(*overrides: str) -> str:
    with pytest.raises((UserError, HydraException, OmegaConfBaseException)) as caught:
        composed(*overrides)
    return explain(caught.value)


def preset(name: str, *overrides: str) -> Config:
    genotype = ["genotype=published/nyud_hrnet18"] if "_atrc" in name else []
    return composed(f"+experiment={name}", *genotype, *overrides)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_composes_under_its_own_name(name):
    config = preset(name)
    assert config.name == name + ("_semseg" if name.endswith("single_task") else "")
    assert (config.distillation.name == "search") == (config.stage.name == "search") == name.endswith("_search")


@pytest.mark.parametrize("name", PRESETS[::16])
def test_presets_take_another_stage(name):
    assert preset(name, "stage=profile").stage.name == "profile"


def test_published_presets_have_the_papers_training_settings():
    config = preset("nyud_hrnet18_search")
    assert (config.optim.lr, config.optim.momentum, config.optim.weight_decay, config.optim.power) == (
        0.01,
        0.9,
        5e-4,
        0.9,
    )
    assert (config.engine.iterations, config.engine.batch_size) == (40_000, 8)
    assert (config.search.arch_lr, config.search.temperature, config.search.entropy) == (
        5e-4,
        [1.0, 0.05],
        [-0.02, 0.06],
    )
    assert config.backbone.weights == "imagenet" and config.dataset.counts == [795, 654]
    assert config.dataset.crop == [425, 560]


def test_pascal_presets_have_the_papers_training_settings():
    published = [name for name in PRESETS if name.startswith("pascal_")]
    nyud = [name for name in PRESETS if name.startswith(("nyud_hrnet18", "nyud_hrnet48")) and "depth" not in name]
    assert {name.replace("nyud", "pascal") for name in nyud} <= set(published)
    config = preset("pascal_hrnet18_search")
    assert config.optim.lr == 0.005 and (config.engine.iterations, config.engine.batch_size) == (40_000, 8)
    assert config.dataset.crop == [512, 512] and config.dataset.counts == [4998, 5105]
    assert (config.dataset.edge_positive_weight, config.dataset.edge_max_distance) == (0.95, 0.0075)
    assert PUBLISHED_GENOTYPES["pascal_hrnet18"].tasks == tuple(config.task_names)


@pytest.mark.slow
def test_other_backbones_have_presets_of_everything_that_a_delta_needs():
    kinds = ("search", "atrc", "single_task", "multi_task")
    for backbone in ("convnext", "swin", "efficientnet"):
        assert {f"{data}_{backbone}_{kind}" for data in ("nyud", "rooms") for kind in kinds} <= set(PRESETS)
        settings = [preset(f"nyud_{backbone}_{kind}") for kind in kinds]
        for config in settings:  # a delta compares networks that differ in nothing else
            assert (config.optim, config.backbone, config.engine, config.dataset) == (
                settings[0].optim, settings[0].backbone, settings[0].engine, settings[0].dataset)  # fmt: skip
            assert config.distillation.channels == settings[0].distillation.channels
        assert settings[0].backbone.weights == "imagenet"
        assert preset(f"rooms_{backbone}_search").backbone.weights == "random"
        assert settings[0].optim.name == ("sgd" if backbone == "efficientnet" else "adamw")


@pytest.mark.parametrize(("start", "neck"), [
    ("nyud_dinov2b", "simple_fpn"),
    ("nyud_vitl", "simple_fpn"),
    ("nyud_swinl", "shared"),
    ("pascal_dinov2b", "simple_fpn"),
])  # fmt: skip
def test_presets_on_large_transformers_differ_in_the_module_alone(start, neck):
    first, *others = (preset(f"{start}_{kind}") for kind in ("search", "atrc", "single_task", "multi_task"))
    for other in others:
        assert [other.optim, other.backbone, other.neck, other.engine, other.dataset] == [
            first.optim, first.backbone, first.neck, first.engine, first.dataset]  # fmt: skip
        assert other.distillation.channels == first.distillation.channels
    assert first.neck.name == neck and first.optim.name == "adamw"
    assert (first.optim.layer_decay < 1) == (neck == "simple_fpn")


@pytest.mark.slow
def test_lite_has_the_presets_of_the_papers_tables_with_the_same_modules():
    whats = {name.removeprefix("rooms_hrnet18_") for name in PRESETS if name.startswith("rooms_hrnet18_")}
    assert {f"rooms_lite_{what}" for what in whats} == {name for name in PRESETS if name.startswith("rooms_lite_")}
    for what in whats:
        lite, other = preset(f"rooms_lite_{what}"), preset(f"rooms_hrnet18_{what}")
        assert lite.name == other.name.replace("hrnet18", "lite") and lite.backbone.weights != "random"
        own = {key: getattr(other, key) for key in ("name", "backbone", "dataset", "engine", "optim", "search")}
        assert replace(lite, **own) == other  # how long, on what and at which rate is the study's


def test_no_override_is_a_search_on_rooms_that_needs_no_download():
    config = composed()
    assert config.stage.name == "search" and config.dataset.procedural and config.backbone.weights == "random"
    assert config == preset("rooms_hrnet18_search")


def test_single_task_preset_takes_its_name_from_the_task():
    config = preset("nyud_hrnet18_single_task", "tasks=[depth]")
    assert config.name == "nyud_hrnet18_single_task_depth" and config.task_names == ["depth"]


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["optim.lrr=1"], ["optim.lrr", "Did you mean 'lr'", "momentum"]),
        (["+optim.lrr=1"], ["optim.lrr", "Did you mean 'lr'"]),
        (["sead=3"], ["'sead'", "Did you mean 'seed'"]),
        (["optm.lr=1"], ["no section 'optm'", "Did you mean 'optim'"]),
        (
            ["dataset=folders", "dataset.folders.labels.semseg.frist=3"],
            ["labels.semseg.frist", "Did you mean 'first'", "dataset.folders.labels.semseg:", "threshold"],
        ),
        (["dataset=folders", "dataset.folders.labels.semsg.first=3"], ["has no 'semsg'", "Did you mean 'semseg'"]),
        (["loss_weights.edge=10"], ["has no 'edge'", "+loss_weights.edge="]),
        (["task_losses.semsge=focal"], ["Did you mean 'semseg'", "+task_losses.semseg="]),
        (["genotype_blocks.depth.semseg=local"], ["+genotype_blocks.depth.semseg="]),
        (["dataset=folders", "dataset.folders.lables.semseg.first=3"], ["'dataset.folders.lables'", "'labels'"]),
        (["dataset=folders", "+dataset.folders.labels.sal.first=3"], ["sal", "YAML", "folder, suffix, encoding"]),
        (["dataset=folders", "+dataset.folders.class_names.semsg=[a]"], ["class_names=semsg", "semseg, human_parts"]),
        (["dataset=folders", "dataset.num_classes.semseg=300"], ["num_classes.semseg=300", "2 to 255"]),
        (["dataset=folders", "+dataset.num_classes.human_parts=14"], ["num_classes=human_parts", "fixed", "semseg"]),
        (["optim.lr=abc"], ["optim.lr=abc", "a number"]),
        (["engine.iterations=3.5"], ["engine.iterations=3.5", "whole number"]),
        (["engine.batch_size=0"], ["engine.batch_size=0", ">= 1"]),
        (["engine.batch_size=8", "engine.accumulate=3"], ["engine.accumulate=3", "divisor"]),
        (["engine.precision=off"], ["engine.precision=off", "fp32, bf16, fp16"]),
        (["search.freeze_gap=2"], ["search.freeze_gap=2", "(0, 1]"]),
        (["distillation.kernel_size=8"], ["distillation.kernel_size=8", "odd"]),
        (["backbone=hrnet19"], ["no backbone", "hrnet19", "hrnet18"]),
        (["backbone=timm"], ["backbone.name", "must be given"]),
        (["+experiment=nyud_hrnet18_serch"], ["Did you mean 'nyud_hrnet18_search'"]),
        (["experiment=nyud_hrnet18_search"], ["+experiment=NAME"]),
        (["tasks=[semseg,human_parts]"], ["human_parts", "rooms has (semseg, depth, normals, edge)"]),
        (["tasks=[semseg,semseg]"], ["tasks=['semseg', 'semseg']", "distinct"]),
        (["dataset.tasks=[depth,depth]"], ["dataset.tasks=['depth', 'depth']", "distinct"]),
        (["+dataset.task_table.shadow=binary"], ["shadow: ", "{kind: binary}"]),
        (["tasks=semseg"], ["must be a list"]),
        (["+loss_weights.sal=2"], ["loss_weights", "sal"]),
        (["+task_forms.edge=regresion"], ["task_forms.edge=regresion", "regression, classification"]),
        (["+task_forms.sal=classification"], ["task_forms", "sal"]),
        (["+task_losses.sal=dice"], ["task_losses=sal", "semseg, depth, normals, edge"]),
        (["+task_losses.depth=dice"], ["task_losses.depth=dice", "l1, l2, berhu, silog"]),
        (["+task_losses.depth=l2", "+task_forms.depth=regression"], ["task_losses.depth=l2", "task_forms.depth"]),
        (["distillation.regions=labels"], ["distillation.regions=labels", "atrc, tlabel, slabel"]),
        (["distillation=none"], ["stage=search", "stage=retrain"]),
        (["distillation.scales=all"], ["distillation.scales=all", "shared, separate or null"]),
        (["+experiment=rooms_lite_mti_net", "distillation.scales=shared"], ["distillation.scales=shared", "mti_net"]),
        (["+experiment=rooms_lite_local", "distillation.scales=separate"], ["distillation.scales=separate", "local"]),
        (
            ["+experiment=rooms_lite_atrc", "distillation.scales=separate", "+genotype_blocks.depth.edge=local"],
            ["genotype=None", "distillation.scales=separate"],
        ),
        (["loss_weights={edge: 2}"], ["entries of loss_weights", "+loss_weights=VALUE"]),
        (
            ["+experiment=rooms_lite_fpm_atrc", "+genotype_blocks.edge@0.depth=local"],
            ["'+genotype_blocks={edge@0: {depth: local}}'"],
        ),
        (
            ["+experiment=rooms_lite_padnet_b", "+genotype_blocks.edge.depth=local+tlabel"],
            ["genotype_blocks=", "left out", "padnet_b"],
        ),
        (["distillation.combine=gate"], ["distillation.combine=gate", "static", "search"]),
        (["distillation=mti_net", "stage=retrain"], ["neck=shared", "fpm for distillation=mti_net"]),
        (["neck=fmp"], ["no neck", "fmp", "fpm"]),
        (["neck=fpm", "neck.softmax=tasks"], ["neck.softmax=tasks", "authors or paper"]),
        (["+experiment=nyud_hrnet18_atrc"], ["genotype", "published/nyud_hrnet18"]),
        (["+experiment=nyud_hrnet18_global", "genotype=published/nyud_hrnet18"], ["genotype", "distillation=atrc"]),
        (["+experiment=nyud_hrnet18_atrc", "+genotype_blocks.depth.semseg=locl"], ["locl", "none, global, local"]),
    ],
)
def test_wrong_configuration_is_one_message_with_value_rule_and_remedy(overrides, parts):
    text = message(*overrides)
    assert all(part in text for part in parts), text
    assert len(text) < 1500 and "Traceback" not in text


def test_typo_in_a_users_own_preset_names_the_file_and_the_key(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\noptim:\n  lrr: 3\n")
    done = run("--config-dir", str(tmp_path), "+experiment=mine", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: in experiment/mine.yaml: unknown key 'optim.lrr'")


def test_command_line_mistake_is_one_line_without_traceback(tmp_path):
    done = run("engine.batch_size=0", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: engine.batch_size=0: must be >= 1\n")
    assert list(tmp_path.iterdir()) == []


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "atrc_exp", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


OWN = {"name": "mine", "reader": "folders", "root": "mine", "tasks": "[semseg, edge]", "num_classes": "{semseg: 4}",
       "crop": "[64, 96]", "edge_positive_weight": "0.9", "edge_max_distance": "0.01"}  # fmt: skip


def own_dataset(folder: Path, facts: dict[str, str]) -> Config:
    (folder / "dataset").mkdir(exist_ok=True)
    (folder / "dataset" / "mine.yaml").write_text("".join(f"{key}: {value}\n" for key, value in facts.items()))
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        search_path = f"hydra.searchpath=[file://{folder}]"
        return typed(compose("config", overrides=[search_path, "dataset=mine", "name=x"]))


@pytest.mark.parametrize("fact", OWN)
def test_no_fact_of_another_dataset_stands_in_for_one_that_is_not_given(tmp_path, fact):
    own_dataset(tmp_path, OWN)
    with pytest.raises((UserError, OmegaConfBaseException)) as caught:
        own_dataset(tmp_path, {key: value for key, value in OWN.items() if key != fact})
    assert f"dataset.{fact}" in explain(caught.value)


def test_what_no_task_of_the_dataset_needs_is_not_asked_for(tmp_path):
    facts = {key: value for key, value in OWN.items() if not key.startswith("edge")}
    config = own_dataset(tmp_path, {**facts, "tasks": "[semseg, depth]"})
    assert config.dataset.num_classes == {"semseg": 4} and config.dataset.edge_positive_weight is None
