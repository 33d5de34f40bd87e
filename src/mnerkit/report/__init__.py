"""What is drawn and written from runs and checkpoints: figures and self-contained pages."""
