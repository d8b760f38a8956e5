"""Chains declared in a card: steps, what each takes, templates, tables, tools. No code in the card."""
