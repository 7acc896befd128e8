"""Making a conversation fit its budget: what `stages/assemble.py` leaves to it."""
