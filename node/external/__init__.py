"""Programs of models of family ``external``: images handed over, shut in, killed in time, their files read."""
