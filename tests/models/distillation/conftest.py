import pytest
import torch


@pytest.fixture(autouse=True)
def _repeatable():
    """Few threads, the same random numbers in every test."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
