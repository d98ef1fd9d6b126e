"""Statistics of finished work: from records to estimates with their intervals. No text, no pictures."""
