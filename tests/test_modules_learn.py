"""Every module of Table 1, and ATRC without self-attention (App. G), trains by its preset."""

import pytest
import small_rooms

from atrc_exp.config.derived import genotype_of
from atrc_exp.report.learning import read_run
from atrc_exp.stages import run_stage

PRESETS = ("multi_task", "cross_stitch", "nddr", "padnet_b", "padnet_c", "pap", "psd", "global", "local", "tlabel",
           "slabel", "atrc", "atrc_no_self", "search")  # fmt: skip
PUBLISHED = ("genotype=published/nyud_hrnet18",)


@pytest.mark.exhaustive
@pytest.mark.parametrize("what", PRESETS)
def test_the_loss_ends_below_its_start(tmp_path, rooms, what):
    extra = PUBLISHED if what.startswith("atrc") else ()
    config = small_rooms.command(
        tmp_path, rooms, *small_rooms.QUICK, f"+experiment=rooms_hrnet18_{what}", "engine.iterations=16",
        "engine.log_every=4", "engine.validate_every=16", "distillation.kernel_size=3", "optim.lr=0.002", *extra,
    )  # fmt: skip
    run_stage(config)
    assert read_run(tmp_path / "runs" / config.name / "seed0").fell


def test_without_self_attention_the_genotype_that_is_built_and_kept_has_none_there():
    by_hand = ("+genotype_blocks.depth.semseg=local", "+genotype_blocks.edge.edge=global")
    genotype = genotype_of(small_rooms.as_typed("+experiment=nyud_hrnet18_atrc_no_self", *PUBLISHED, *by_hand))
    assert genotype is not None
    assert [genotype.blocks[task][task] for task in genotype.tasks] == ["none"] * 4
    assert genotype.blocks["depth"]["semseg"] == "local" and genotype.blocks["semseg"]["normals"] == "slabel"
    with_self = small_rooms.as_typed("+experiment=nyud_hrnet18_atrc", *PUBLISHED)
    assert genotype_of(with_self).blocks["semseg"]["semseg"] == "tlabel"
