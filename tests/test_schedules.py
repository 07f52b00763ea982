import pytest

from atrc_exp.schedules import due, linear, poly


def test_poly_at_worked_points() -> None:
    assert poly(0, 40_000, 0.9) == 1.0
    assert poly(20_000, 40_000, 0.9) == pytest.approx(0.535887, abs=1e-6)  # 0.5 ** 0.9
    assert poly(39_999, 40_000, 0.9) == pytest.approx(7.2137e-5, rel=1e-4)  # (1 / 40000) ** 0.9


def test_linear_at_worked_points_ends_one_step_before_the_last_value() -> None:
    assert [linear(step, 4, 1.0, 0.05) for step in range(4)] == pytest.approx([1, 0.7625, 0.525, 0.2875])
    assert [linear(step, 4, -0.02, 0.06) for step in range(4)] == pytest.approx([-0.02, 0, 0.02, 0.04])
    assert linear(0, 1, 3.0, 4.0) == 3.0


def test_due_includes_the_last_iteration_once() -> None:
    assert [step for step in range(1, 11) if due(step, 4, 10)] == [4, 8, 10]
    assert [step for step in range(1, 9) if due(step, 4, 8)] == [4, 8]
