"""What decides a boot: features, static keys and calls, the return thunk, derived from facts, each with its source.

`prediction` gives the feature words of a machine under a kernel, `returns` its return thunk and lock prefixes, `keys` a
first guess at static keys and static calls, and `boot` brings all of it to the core. Numbers of features come from the
image, values of unprinted features from rules that each restate one function of the kernel (``rules_*``).
"""
