"""Measures framepipe and its peers in turn: `python -m harness`, which scripts/bench-peers runs in its environments.

A map of the package: `workloads` and `peers` (the tables: what is measured, and on whom), `material`
(images that workloads need), `server` (a peer's process), `load` and `drivers` (the client's process),
`engine` (the bare engine), `process` (CPU time and memory of processes), `session` (one peer under one workload),
`figures` (medians, and the figures by their names), `machine` (where and when).
"""
