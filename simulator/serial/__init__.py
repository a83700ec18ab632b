"""Models of what hangs on serial lines, and pseudo-terminals to hang it on."""
