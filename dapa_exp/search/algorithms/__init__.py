"""The search algorithms. Each file registers what it holds; nothing else lists them."""
