"""The command `atrc-boundary`: two folders of files become tables, curves, overlays and warnings."""
