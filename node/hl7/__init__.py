"""HL7 v2 from other systems: corrections and merges of patients, orders, signed reports.

``framing`` (MLLP) → ``message`` (bytes to fields) → ``patients``, ``orders``, ``reports`` (fields to facts, pure) →
``inbox`` (facts to the store, one transaction a message) → ``acknowledgement``; ``listener`` owns the sockets.
"""
