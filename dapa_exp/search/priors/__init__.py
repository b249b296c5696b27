"""Which units are likely to matter: importance by unit, from weights, gradients or activations."""

from dapa_exp.search.priors.registry import PRIORS, Evidence, Prior, compute_prior

__all__ = ["PRIORS", "Evidence", "Prior", "compute_prior"]
