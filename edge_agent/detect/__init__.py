"""Detection on the gateway: ONNX models and plain rules turn ticks into scores and alarms."""
