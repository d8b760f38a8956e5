"""Calls to models outside of this node, and the gate that nothing identifying passes."""
