"""`make demo`: one stroke study in, results out, everything on loopback."""
