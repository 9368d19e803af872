"""Export of models to ONNX files of standard operators."""
