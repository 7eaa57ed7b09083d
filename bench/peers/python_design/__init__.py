"""The paper's design in Python, written as well as Python allows: what framepipe is compared with first.

Processes for ingest, preprocess, detect, postprocess, attribute and the gRPC gateway, joined by queues of
`multiprocessing`, with images in tmpfs. Two variants, which differ in what the queues carry (`memory`):

- `queues`: the arrays themselves, as the paper has it;
- `shm`: numbers of slots of one `multiprocessing.shared_memory`, into which stages write and ONNX Runtime is bound.

The service is framepipe's (proto/), so that the same client drives both.

A frame's journey: `gateway.PushData` gives it a slot and a number and puts it into the first queue; each process
(`worker`) takes a group of frames from its queue, lets its stage (`ingest`, `stages`, `passing`) work on them, and puts
them into the next; the last queue is the gateway's, which gives the result to its stream (`streams`) and frees the
slot. So the slots bound what is in flight, and nobody but the gateway gives or frees them.

What it does not promise, as the paper does not: a frame whose process dies is lost (`gateway.LOST_S` later its result
is an error), and a process that dies while it holds a queue's lock stops the pipeline.
"""
