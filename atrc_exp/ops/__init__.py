"""Operations that PyTorch does not have: local (neighbourhood) attention."""

from atrc_exp.ops.interface import local_attention
from atrc_exp.ops.registration import forms_that_ran

__all__ = ["forms_that_ran", "local_attention"]
