"""The papers' experiments, profiles and settings as a package, so that an installed mnerkit has them."""
