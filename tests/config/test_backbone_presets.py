"""The networks of the presets on other backbones, at the size of NYUD-v2, which is no multiple of their strides."""

import pytest
from small_rooms import as_typed

from atrc_exp.models.profile import profile_of

# parameters in millions, multiply-adds in 10^9 with local attention
ROWS = [
    ("convnext", "atrc", 47.214, 306.156),
    ("swin", "atrc", 46.913, 305.551),
    ("efficientnet", "atrc", 7.615, 58.926),
    *(
        pytest.param(*row, marks=pytest.mark.exhaustive)
        for row in (
            ("convnext", "multi_task", 37.159, 162.813),
            ("convnext", "search", 50.094, 350.754),
            ("swin", "multi_task", 36.859, 162.207),
            ("swin", "search", 49.793, 350.149),
            ("efficientnet", "multi_task", 5.816, 35.036),
            ("efficientnet", "search", 8.988, 81.401),
        )
    ),
]


@pytest.mark.parametrize(("backbone", "what", "parameters", "multiply_adds"), ROWS)
def test_presets_build_and_have_the_documented_resources(backbone, what, parameters, multiply_adds):
    genotype = ["genotype=published/nyud_hrnet18"] if what == "atrc" else []
    total = profile_of(as_typed("stage=profile", f"+experiment=nyud_{backbone}_{what}", *genotype)).total
    assert total.parameters / 1e6 == pytest.approx(parameters, abs=1e-3)
    assert (total.multiply_adds + total.local_attention) / 1e9 == pytest.approx(multiply_adds, abs=1e-3)
