"""LLaVA-NeXT-Interleave-Bench: SD, IE, VST (ROUGE-L) and Multi-View (overall score)."""
