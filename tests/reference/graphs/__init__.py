"""Detector graphs of published architectures, whose weights find painted objects: see `net.py`."""
