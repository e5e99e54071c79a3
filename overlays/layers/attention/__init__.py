"""The attention backend ASCEND.

Every state of a batch (prompts, parts of prompts, single tokens, all of them mixed) is one call: what is new is written
to the cache first, and the queries of all requests read everything from there.
"""
