"""What the commands of `python -m include.order_cancel` do; `__main__` says how they are called."""
