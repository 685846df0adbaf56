"""What the full stack costs beside the bare SDKs: `python -m benchmarks`, and `python benchmarks/fragments.py`."""
