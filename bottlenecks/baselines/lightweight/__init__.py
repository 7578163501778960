"""The training-free codec of Cohen, Choi and Bajić: clip, quantise coarsely, truncated unary, arithmetic coding."""
