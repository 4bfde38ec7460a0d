"""The server of `visionbench serve`: a local model behind an OpenAI-compatible interface.

gate → read (worker threads) → batcher → engine (one thread) → answer
"""
