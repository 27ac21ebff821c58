"""Files of other programs, one module each: plain data in, plain data out."""
