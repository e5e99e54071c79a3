"""Which rows of an embedding are this rank's."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_of_this_rank(
    input_: Tensor,
    org_vocab_start_index: int,
    org_vocab_end_index: int,
    num_org_vocab_padding: int,
    added_vocab_start_index: int,
    added_vocab_end_index: int,
) -> tuple[Tensor, Tensor]:
    """Return the row of this rank's weight for each token, and which tokens belong to other ranks.

    A rank's weight holds its part of the model's vocabulary, padding, then its part of the added (LoRA) vocabulary.
    Called by vLLM's VocabParallelEmbedding with more than one rank.

    Args:
        input_: token ids; any shape; int32 or int64.
        org_vocab_start_index: first token of the model's vocabulary that is here.
        org_vocab_end_index: one behind the last.
        num_org_vocab_padding: rows of padding after them.
        added_vocab_start_index: first token of the added vocabulary that is here.
        added_vocab_end_index: one behind the last.

    Returns:
        rows: shape and dtype of `input_`; 0 for the tokens of other ranks.
        elsewhere: shape of `input_`, bool; True for the tokens of other ranks.
    """
    own = (input_ >= org_vocab_start_index) & (input_ < org_vocab_end_index)
    added = (input_ >= added_vocab_start_index) & (input_ < added_vocab_end_index)
    first_added_row = org_vocab_end_index - org_vocab_start_index + num_org_vocab_padding
    row_of_added = input_ - added_vocab_start_index + first_added_row
    rows = torch.where(own, input_ - org_vocab_start_index, torch.where(added, row_of_added, 0))
    return rows, ~(own | added)
