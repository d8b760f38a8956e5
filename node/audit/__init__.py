"""Audit messages for an audit record repository (PS3.15 A.5, IHE ATNA), made from the node's own ledger."""
