"""`ascend-overlay scan`: the patches that a package makes by hand, and what is wrong with them."""
