"""Who may use the console and its API: users, roles, sessions, tokens. No HTTP here."""
