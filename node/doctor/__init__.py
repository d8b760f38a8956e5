"""What `ainode doctor` looks at: each examination is a function that gives a finding or raises with a remedy."""
