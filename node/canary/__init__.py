"""A phantom study that goes the whole way, again and again, so that a node that has stopped working is found out."""
