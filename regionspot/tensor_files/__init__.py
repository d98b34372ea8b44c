"""Files of tensors, bounded before a library reads them."""
