"""What a session remembers: the window, what is put into summaries, key facts, items.

Decisions only: nothing here reads or writes.
"""
