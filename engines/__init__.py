"""ONNX -> a plan -> a callable: profiles, builders, the store of what was built, and executors.

An engine maps a dict of tensors to a dict of tensors on one device (`Engine`). What calls it never knows which backend
it is.
"""
