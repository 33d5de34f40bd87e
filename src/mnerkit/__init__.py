"""mnerkit: multimodal named entity recognition, every method from one command."""

__version__ = "0.1.0"
