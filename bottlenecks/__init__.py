"""Bottleneck units for split networks: train, code, swap and judge them.

Nothing heavy is imported here, so that the coder and the bitstream can be used where there is no torch.
"""

__version__ = "0.1.0"
