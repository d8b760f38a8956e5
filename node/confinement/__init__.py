"""Shuts a model host in: no network, its own study and the models, nothing else of this machine.

Each measure is one of the Linux kernel's and is tried when a host starts. What the machine does not allow is a gap with a
reason, told by `ainode status` and `ainode doctor`; the node goes on without it.
"""
