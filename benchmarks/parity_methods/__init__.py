"""One module a method: how a case's inputs become ours, and which of our tensors is which of its outputs."""
