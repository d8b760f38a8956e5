"""Watches the node from a process of its own: whatever else stands still, somebody is told."""
