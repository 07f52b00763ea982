"""Operations that PyTorch does not have: local (neighbourhood) attention."""

from atrc_exp.ops.interface import local_attention

__all__ = ["local_attention"]
