"""What every Python peer does with an image: the models of the repository, with OpenCV and ONNX Runtime.

Tuned as its users would: buffers are kept, boxes are decoded only where a score passes, no thread spins.

A map of the package: `manifest` (what a model wants and gives), `images` (decode, resize, crop, normalise), `engine`
(ONNX Runtime), `heads` (outputs to boxes), `attributes` (crops to attributes), `results` (what these are),
`allocator` (glibc's malloc).
"""
