"""Hardware-in-the-loop simulator and fault lab. Only tests and `edge-sim` import it."""
