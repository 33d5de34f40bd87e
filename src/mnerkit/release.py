"""The release."""

RELEASE = "0.1.0"
