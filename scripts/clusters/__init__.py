"""A real Kubernetes API server on this machine, with the definitions that kn-chat needs: what
`scripts/cluster` runs.

`cluster.py` is what tests import. Nothing here runs a container: pods stay Pending, and tests
stand in for Knative's controllers.
"""
