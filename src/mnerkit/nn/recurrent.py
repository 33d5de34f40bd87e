"""A recurrent network over padded sequences."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run_lstm(lstm: nn.LSTM, inputs: Tensor, lengths: Tensor) -> Tensor:
    """States of an LSTM over right-padded sequences; they do not depend on the padding.

    Under autocast on a CPU without bfloat16, the LSTM runs in float32.

    Args:
        lstm: with `batch_first`; unidirectional or bidirectional.
        inputs: (B, T, e).
        lengths: (B,) real steps of each row; an empty row is read as one step.

    Returns:
        (B, T, d), zeros where padded.

    """
    full = inputs.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not _bfloat16_on_cpu()
    with torch.autocast("cpu", enabled=False) if full else nullcontext():
        # an empty row can't be packed
        packed = pack_padded_sequence(
            inputs.float() if full else inputs, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=inputs.shape[1])
    return states


@cache
def _bfloat16_on_cpu() -> bool:
    """Whether this CPU can run an LSTM in bfloat16; torch raises an error if not."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
