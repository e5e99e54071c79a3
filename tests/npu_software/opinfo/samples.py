"""The operators of which CI compares some samples."""

from __future__ import annotations

SOME = (
    # views, and what shares memory
    *("as_strided.partial_views", "expand", "narrow", "transpose", "unfold", "view_as", "view_as_complex"),
    # one tensor, two tensors, reductions, conversions
    *("abs", "add", "cumsum", "logical_and", "mean", "prod", "sum", "true_divide", "where", "to"),
    # sizes that depend on contents, indices
    *("gather", "index_put", "masked_select", "nonzero", "repeat_interleave", "scatter_add", "take", "unique"),
    # results that lie otherwise, are of a list, or are yet to be conjugated; overlaps that are refused
    *("cat", "geqrf", "linalg.lstsq", "split_with_sizes_copy", "svd", "vdot"),
    # layers, and random numbers
    *("bernoulli", "matmul", "multinomial", "nn.functional.conv2d", "nn.functional.dropout"),
    *(
        "nn.functional.layer_norm",
        "nn.functional.scaled_dot_product_attention",
        "nn.functional.unfold",
        "normal",
        "rand_like",
        "softmax",
    ),
    # lists, sorting, factories, without content, nothing to compare
    *("topk", "sort", "block_diag", "full", "empty", "jiterator_unary", "tensor_split", "to_sparse"),
)
"""Operators of all kinds, for CI."""
