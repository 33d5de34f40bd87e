"""A recurrent network over padded sequences."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run_lstm(lstm: nn.LSTM, inputs: Tensor, lengths: Tensor) -> Tensor:
    """States of an LSTM over right-padded sequences; none depends on padding.

    Args:
        lstm: with `batch_first`; in both directions or one.
        inputs: (B, T, e).
        lengths: (B,) real steps of each row; a row without any is read as one step.

    Returns:
        (B, T, d), zeros where padded.

    """
    # nothing can't be packed
    packed = pack_padded_sequence(inputs, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=inputs.shape[1])
    return states
