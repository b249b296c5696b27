"""Which units are likely to matter: importance by unit, from weights, gradients or activations.

Each file registers the priors that it holds; nothing else lists them. A prior is a function of `Evidence`.
"""
