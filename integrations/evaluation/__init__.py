"""Average precision as COCO and LVIS define it, with intervals over images."""
