"""How evcxr becomes a good kernel: started, cared for, its cells compiled, its messages carried.

Knows nothing of wearables; the one crate that its cells can use is named in `setup.layout`. From
the other rooms only `setup` may come in.
"""
