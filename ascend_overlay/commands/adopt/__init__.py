"""`ascend-overlay adopt`: what a function that patches vLLM changes there, seen by running it."""
