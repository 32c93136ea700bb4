"""What Spillway costs, measured: each benchmark is one module and `python -m benchmarks NAME`."""
