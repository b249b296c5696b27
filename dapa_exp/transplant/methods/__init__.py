"""What a transplant puts into the student: the teacher's tensors, or something computed from both models' weights.

Each file registers the methods that it holds; nothing else lists them.
"""
