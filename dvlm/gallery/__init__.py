"""One self-contained HTML page of what training will see: an epoch in numbers, and its first turns in pictures.

line, epoch -> survey (numbers) -> page (HTML); line, turn -> turns.card (pictures and texts) -> page
"""
