"""What the tiny models are asked."""

PROMPTS = (
    "The river wanted to see the mountains, so",
    "A language model reads",
    "How many numbers are there between",
    "In the morning",
    "Each layer adds something",
    "Once upon a time there was",
    "Count them: one, two,",
    "Memory is slow and",
)

SEED = 12
"""With these weights of DeepSeek-V2, no prompt leads to a near tie that another rounding could turn."""
