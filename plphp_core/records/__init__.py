"""What is on disk: one model per record, which its writer and its readers share, and how it is written."""
