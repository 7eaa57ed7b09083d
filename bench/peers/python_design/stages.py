"""What the stages with models do to frames."""

from cascade.attributes import AttributeModel, describe
from cascade.engine import open_session
from cascade.heads import Head
from cascade.images import Preprocessor, pixels
from cascade.manifest import Model
from peers.python_design.frame import Frame, Result
from peers.python_design.memory import Memory, Slots


class Preprocess:
    """Decodes and makes the tensor."""

    def __init__(self, memory: Memory, model: Model, half: bool, keeps_image: bool) -> None:
        """Make the buffers. `half`: JPEGs are decoded to half their sides."""
        self._memory = memory
        self._preprocessor = Preprocessor(model.input)
        self._half = half
        self._keeps_image = keeps_image

    def work(self, frames: list[Frame]) -> list[Frame]:
        """Make the tensors of a group of frames."""
        return [self._one(frame) for frame in frames]

    def _one(self, frame: Frame) -> Frame:
        image = pixels(self._memory.encoded(frame), frame.source.raw, self._half)
        tensor = self._memory.new_tensor(frame)
        placement = self._preprocessor.image(image, tensor[0])
        if self._keeps_image:
            self._memory.keep_image(frame, image)
        return self._memory.sent(frame, tensor, placement=placement)


class Detect:
    """Runs the detector; in shared memory it is bound to the frame's slot, once a slot."""

    def __init__(self, memory: Memory, model: Model, threads: int) -> None:
        """Open the session."""
        self._memory = memory
        self._session = open_session(model.graph, threads)
        self._input = model.input.tensor
        self._names = [output.name for output in self._session.get_outputs()]
        self._bindings = {}

    def work(self, frames: list[Frame]) -> list[Frame]:
        """Run the frames of a group one by one: on a CPU a batch gains nothing."""
        run = self._bound if isinstance(self._memory, Slots) else self._unbound
        return [run(frame) for frame in frames]

    def _unbound(self, frame: Frame) -> Frame:
        outputs = self._session.run(self._names, {self._input: self._memory.tensor(frame)})
        return self._memory.sent(frame, *outputs)

    def _bound(self, frame: Frame) -> Frame:
        binding = self._bindings.get(frame.slot)
        if binding is None:
            binding = self._bindings[frame.slot] = self._session.io_binding()
            tensor = self._memory.tensor(frame)
            binding.bind_input(self._input, "cpu", 0, tensor.dtype, tensor.shape, tensor.ctypes.data)
            for name, output in zip(self._names, self._memory.outputs(frame), strict=True):
                binding.bind_output(name, "cpu", 0, output.dtype, output.shape, output.ctypes.data)
        self._session.run_with_iobinding(binding)
        return self._memory.sent(frame)


class Postprocess:
    """Decodes, filters and suppresses boxes."""

    def __init__(self, memory: Memory, model: Model, output_names: list[str], goes_on: bool, half: bool) -> None:
        """Look up the head. `goes_on`: attribute models follow."""
        self._memory = memory
        self._head = Head(model, output_names)
        self._goes_on = goes_on
        self._half = half

    def work(self, frames: list[Frame]) -> list[Result] | list[tuple[Frame, Result]]:
        """Return the results of a group; with their frames, where attribute models follow."""
        results = [self._one(frame) for frame in frames]
        if not self._goes_on:
            return results
        return [(self._memory.sent(frame), result) for frame, result in zip(frames, results, strict=True)]

    def _one(self, frame: Frame) -> Result:
        detections = self._head.detections(self._memory.outputs(frame), frame.placement)
        width, height = frame.placement.width, frame.placement.height
        if self._half and frame.source.raw is None:
            detections = [(*(2 * side for side in found[:4]), *found[4:]) for found in detections]
            width, height = 2 * width, 2 * height
        return Result(frame.number, frame.slot, (width, height), detections, [])


class Attribute:
    """Describes what was found, by crops of the image."""

    def __init__(self, memory: Memory, models: list[AttributeModel], crops_max: int) -> None:
        """Keep the opened models; at most `crops_max` detections of a frame are described, highest scores first."""
        self._memory = memory
        self._models = models
        self._crops_max = crops_max

    def work(self, frames: list[tuple[Frame, Result]]) -> list[Result]:
        """Return the results of a group with the attributes of their detections."""
        return [self._one(frame, result) for frame, result in frames]

    def _one(self, frame: Frame, result: Result) -> Result:
        described = result.detections[: self._crops_max]
        if not described:
            return result
        image = self._memory.image(frame)
        if image is None:
            image = pixels(self._memory.encoded(frame), frame.source.raw)
        return result._replace(attributes=describe(self._models, image, described))
