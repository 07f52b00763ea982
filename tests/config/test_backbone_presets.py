"""The networks of the presets on other backbones, at the size of NYUD-v2, which is no multiple of their strides."""

import pytest
from small_rooms import as_typed

from atrc_exp.models.profile import profile_of

# parameters in millions, multiply-adds in 10^9 with local attention
ROWS = [
    ("convnext", "atrc", 47.214, 306.156),
    ("swin", "atrc", 46.913, 305.551),
    ("efficientnet", "atrc", 7.615, 58.926),
    ("dinov2b", "atrc", 109.087, 466.615),
    *(
        pytest.param(*row, marks=pytest.mark.exhaustive)
        for row in (
            ("convnext", "multi_task", 37.159, 162.813),
            ("convnext", "search", 50.094, 350.754),
            ("swin", "multi_task", 36.859, 162.207),
            ("swin", "search", 49.793, 350.149),
            ("efficientnet", "multi_task", 5.816, 35.036),
            ("efficientnet", "search", 8.988, 81.401),
            ("dinov2b", "single_task", 94.508, 202.310),
            ("dinov2b", "multi_task", 101.589, 340.495),
            ("dinov2b", "search", 114.895, 579.367),
            ("vitl", "single_task", 313.864, 385.507),
            ("vitl", "multi_task", 320.945, 491.553),
            ("vitl", "atrc", 328.443, 588.347),
            ("vitl", "search", 334.251, 674.885),
            ("swinl", "single_task", 199.869, 265.022),
            ("swinl", "multi_task", 213.867, 474.707),
            ("swinl", "atrc", 248.992, 993.433),
            ("swinl", "search", 251.872, 1038.030),
        )
    ),
]


@pytest.mark.parametrize(("backbone", "what", "parameters", "multiply_adds"), ROWS)
def test_presets_build_and_have_the_documented_resources(backbone, what, parameters, multiply_adds):
    genotype = ["genotype=published/nyud_hrnet18"] if what == "atrc" else []
    total = profile_of(as_typed("stage=profile", f"+experiment=nyud_{backbone}_{what}", *genotype)).total
    assert total.parameters / 1e6 == pytest.approx(parameters, abs=1e-3)
    assert (total.multiply_adds + total.local_attention) / 1e9 == pytest.approx(multiply_adds, abs=1e-3)


def test_a_transformers_products_are_those_of_its_formula():
    """12 blocks of 12 C^2 weights for each of T tokens and two products of T x T x C, behind 31 x 40 patches."""
    backbone = profile_of(as_typed("stage=profile", "+experiment=nyud_dinov2b_multi_task")).parts["backbone"]
    cells, width = 31 * 40, 768
    tokens = cells + 1
    blocks = 12 * (12 * width**2 * tokens + 2 * tokens**2 * width)
    assert backbone.multiply_adds == blocks + cells * width * 3 * 14**2
