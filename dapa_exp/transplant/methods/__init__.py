"""What a transplant puts into the student: the teacher's tensors, or something computed from both models' weights."""

from dapa_exp.transplant.methods.contract import Method
from dapa_exp.transplant.methods.registry import METHODS, make_method

__all__ = ["METHODS", "Method", "make_method"]
